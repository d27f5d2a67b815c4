import type { Attempt } from "./attempts.ts";

/** Ways to another file system, to devices and to the kernel's own files. */
export const mountAttempts: readonly Attempt[] = [
  { name: "a new file system cannot be mounted", run: `mount("none", "/mnt", "tmpfs")`, meets: "EPERM" },
  { name: "a fresh proc cannot be mounted", run: `mount("proc", "/mnt", "proc")`, meets: "EPERM" },
  { name: "a fresh sysfs cannot be mounted", run: `mount("sysfs", "/mnt", "sysfs")`, meets: "EPERM" },
  {
    name: "a cgroup hierarchy cannot be mounted for its release_agent",
    run: `mount("cgroup", "/mnt", "cgroup", 0, "memory")`,
    meets: "EPERM",
  },
  { name: "a unified cgroup hierarchy cannot be mounted", run: `mount("none", "/mnt", "cgroup2")`, meets: "EPERM" },
  {
    name: "another overlay cannot be mounted",
    run: `mount("o", "/mnt", "overlay", 0, "lowerdir=/:/etc")`,
    meets: "EPERM",
  },
  { name: "a directory cannot be bound elsewhere", run: `mount("/etc", "/mnt", None, MS_BIND)`, meets: "EPERM" },
  {
    name: "the mask over a kernel file cannot be bound away",
    run: `mount("/proc/self/maps", "/proc/keys", None, MS_BIND)`,
    meets: "EPERM",
  },
  { name: "a mount cannot be moved", run: `mount("/proc", "/mnt", None, MS_MOVE)`, meets: "EPERM" },
  {
    name: "the root cannot be mounted again with devices",
    run: `mount(None, "/", None, MS_REMOUNT | MS_BIND)`,
    meets: "EPERM",
  },
  {
    name: "/proc/sys cannot be mounted again writable",
    run: `mount(None, "/proc/sys", None, MS_REMOUNT | MS_BIND)`,
    meets: "EPERM",
  },
  {
    name: "the agent's directory cannot be mounted again writable",
    run: `mount(None, "/.caisson", None, MS_REMOUNT | MS_BIND)`,
    meets: "EPERM",
  },
  {
    name: "mounts cannot be made to spread to the host",
    run: `mount(None, "/", None, MS_REC | MS_SHARED)`,
    meets: "EPERM",
  },
  { name: "a mask cannot be unmounted", run: `call("umount2", "/proc/keys", MNT_DETACH)`, meets: "EPERM" },
  { name: "/proc/sys cannot be unmounted", run: `call("umount2", "/proc/sys", MNT_DETACH)`, meets: "EPERM" },
  { name: "fsopen is refused", run: `call("fsopen", "tmpfs", 0)`, meets: "EPERM" },
  { name: "fspick is refused", run: `call("fspick", AT_FDCWD, "/", 0)`, meets: "EPERM" },
  { name: "fsconfig is refused", run: `call("fsconfig", 0, 0, "a", "b", 0)`, meets: "EPERM" },
  { name: "fsmount is refused", run: `call("fsmount", 0, 0, 0)`, meets: "EPERM" },
  { name: "open_tree cannot clone a mount", run: `call("open_tree", AT_FDCWD, "/", 1)`, meets: "EPERM" },
  { name: "move_mount is refused", run: `call("move_mount", 0, "", AT_FDCWD, "/mnt", 4)`, meets: "EPERM" },
  { name: "mount_setattr is refused", run: `call("mount_setattr", AT_FDCWD, "/", 0, b"\\0" * 32, 32)`, meets: "EPERM" },
  {
    name: "mounts of other namespaces cannot be listed",
    run: `call("listmount", b"\\0" * 32, b"\\0" * 64, 8, 0)`,
    meets: "ENOSYS",
  },
  { name: "pivot_root is refused", run: `call("pivot_root", "/", "/")`, meets: "EPERM" },
  { name: "a chroot is climbed out of only as far as the sandbox's own root", run: `chroot_out()`, meets: "own root" },
  { name: "a file of the host cannot be opened by its handle", run: `open_by_handle()`, meets: "EPERM" },
  { name: "every process has the same root", run: `roots_of_processes()`, meets: "[]" },
  { name: "no process holds a directory or a device of the host open", run: `foreign_descriptors()`, meets: "[]" },
  { name: "no mount is shared with the host", run: `lines_that_name("/proc/self/mountinfo", " shared:")`, meets: "[]" },
];

export const deviceAttempts: readonly Attempt[] = [
  {
    name: "a node of the host's first disk cannot be made",
    run: `os.mknod("/tmp/disk", 0o600 | stat.S_IFBLK, os.makedev(254, 0))`,
    meets: "EPERM",
  },
  {
    name: "a node of a loop device cannot be made",
    run: `os.mknod("/dev/loop0", 0o600 | stat.S_IFBLK, os.makedev(7, 0))`,
    meets: "EPERM",
  },
  {
    name: "a node of the machine's memory cannot be made",
    run: `os.mknod("/dev/mem", 0o600 | stat.S_IFCHR, os.makedev(1, 1))`,
    meets: "EPERM",
  },
  {
    name: "a node of the kernel log cannot be made",
    run: `os.mknod("/dev/shm/kmsg", 0o600 | stat.S_IFCHR, os.makedev(1, 11))`,
    meets: "EPERM",
  },
  {
    name: "/dev has the harmless devices and nothing else",
    run: `sorted(os.listdir("/dev"))`,
    meets:
      "['core', 'fd', 'full', 'mqueue', 'null', 'ptmx', 'pts', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'tty', 'urandom', 'zero']",
  },
  { name: "there is no loop control", run: `open("/dev/loop-control")`, meets: "ENOENT" },
  { name: "there is no tunnel device", run: `open("/dev/net/tun")`, meets: "ENOENT" },
  { name: "there is no virtualisation device", run: `open("/dev/kvm")`, meets: "ENOENT" },
  { name: "there is no FUSE device", run: `open("/dev/fuse")`, meets: "ENOENT" },
  {
    name: "a terminal of the host cannot be typed into",
    run: `fcntl.ioctl(os.open("/dev/tty", os.O_RDWR), 0x5412, b"x")`,
    meets: "ENXIO",
  },
  { name: "the only pseudo-terminals are the sandbox's own", run: `os.listdir("/dev/pts")`, meets: "['ptmx']" },
];

const READ_ONLY_FILES: readonly (readonly [path: string, text: string, means: string])[] = [
  ["/proc/sys/kernel/core_pattern", "|/tmp/x", "the core dump handler"],
  ["/proc/sys/kernel/modprobe", "/tmp/x", "the module loader"],
  ["/proc/sys/kernel/sysrq", "1", "the system request keys"],
  ["/proc/sys/kernel/panic", "1", "what a panic does"],
  ["/proc/sys/vm/overcommit_memory", "1", "the host's memory policy"],
  ["/proc/sys/vm/drop_caches", "3", "the host's page cache"],
  ["/proc/sys/fs/file-max", "1", "the host's limit of open files"],
  ["/proc/sys/net/ipv4/ip_unprivileged_port_start", "0", "settings of the network namespace"],
  ["/proc/irq/default_smp_affinity", "1", "interrupts"],
  ["/sys/class/net/eth0/mtu", "9000", "interface settings in sysfs"],
  ["/sys/power/state", "mem", "the machine's power state"],
  ["/sys/fs/cgroup/memory/memory.limit_in_bytes", "-1", "the memory limit"],
  ["/sys/fs/cgroup/memory/cgroup.procs", "1", "the membership of the memory cgroup"],
  ["/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1", "the CPU limit"],
  ["/sys/fs/cgroup/memory.max", "max", "the memory limit of unified cgroups"],
  ["/sys/fs/cgroup/pids.max", "max", "the process limit of unified cgroups"],
  ["/sys/fs/cgroup/cgroup.procs", "1", "the membership of the unified cgroup"],
];

export const kernelFileAttempts: readonly Attempt[] = [
  ...READ_ONLY_FILES.map(([path, text, means]) => ({
    name: `${means} (${path}) cannot be changed`,
    run: `write("${path}", "${text}")`,
    // Refused by the owner, who is nobody of the sandbox, or by the mount, which is read-only; a kernel without the file is as good.
    meets: /^(EACCES|EROFS|ENOENT)$/,
  })),
  {
    name: "sysrq-trigger cannot be written",
    run: `write("/proc/sysrq-trigger", "c")`,
    meets: /^(EROFS|ENOENT|EACCES)$/,
  },
  {
    name: "no release_agent can be set",
    run: `glob.glob("/sys/fs/cgroup/**/release_agent", recursive=True)`,
    meets: "[]",
  },
  {
    name: "a cgroup below the sandbox's own cannot be made",
    run: `os.mkdir(("/sys/fs/cgroup/memory" if os.path.isdir("/sys/fs/cgroup/memory") else "/sys/fs/cgroup") + "/below")`,
    meets: /^(EACCES|EROFS)$/,
  },
  { name: "the device cgroup is not shown", run: `os.listdir("/sys/fs/cgroup/devices")`, meets: "ENOENT" },
  {
    name: "binary formats cannot be registered",
    run: `write("/proc/sys/fs/binfmt_misc/register", ":x:M::x::/x:")`,
    meets: /^(ENOENT|EROFS)$/,
  },
  { name: "the hotplug helper cannot be set", run: `write("/sys/kernel/uevent_helper", "/tmp/x")`, meets: "ENOENT" },
  {
    name: "of /sys there are the sandbox's cgroup and interfaces, and the processors: no disks, firmware, modules or debugging files",
    run: `sorted(glob.glob("/sys/*") + glob.glob("/sys/*/*"))`,
    meets:
      "['/sys/class', '/sys/class/net', '/sys/devices', '/sys/devices/system', '/sys/devices/virtual', '/sys/fs', '/sys/fs/cgroup']",
  },
  { name: "/sys takes no new files", run: `os.mkdir("/sys/class/new")`, meets: "EROFS" },
  ...["diskstats", "partitions", "cmdline"].map((name) => ({
    name: `/proc/${name} shows nothing of the host`,
    run: `read("/proc/${name}")`,
    meets: "",
  })),
  ...["fs", "bus", "irq", "driver"].map((name) => ({
    name: `/proc/${name} shows nothing of the host`,
    run: `os.listdir("/proc/${name}")`,
    // A kernel without the directory is as good.
    meets: /^(\[\]|ENOENT)$/,
  })),
  { name: "the kernel's memory cannot be read", run: `read("/proc/kcore", 16)`, meets: /^(|ENOENT)$/ },
  { name: "addresses of the kernel's symbols are not shown", run: `read("/proc/kallsyms")`, meets: "" },
  { name: "the kernel's log is not shown", run: `read("/proc/kmsg", 64)`, meets: "" },
  { name: "other users' keys are not shown", run: `read("/proc/keys") + read("/proc/key-users")`, meets: "" },
  { name: "the host's timers are not shown", run: `read("/proc/timer_list")`, meets: "" },
  { name: "the host's interrupts are not shown", run: `read("/proc/interrupts")`, meets: "" },
  {
    name: "a process cannot put itself beyond the reach of the out-of-memory killer",
    run: `write("/proc/self/oom_score_adj", "-1000")`,
    meets: "EACCES",
  },
  {
    name: "the table of ids cannot be written again",
    run: `write("/proc/self/uid_map", "0 0 4294967295")`,
    meets: "EPERM",
  },
  {
    name: "the mapping shows 65,536 ids of the host that are unprivileged there, and beyond them those of nobody",
    run: `[(inside, outside >= 0x70000000, count) for inside, outside, count in (map(int, line.split()) for line in read("/proc/self/uid_map").splitlines())]`,
    meets: `[(0, True, 65536), (65536, True, ${2 ** 31 - 65536})]`,
  },
];
