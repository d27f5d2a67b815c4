import type { Attempt } from "./attempts.ts";

/** What is mounted from the host for the agent, and the agent's own socket and log. */
export const agentAttempts: readonly Attempt[] = [
  ...["agent.js", "bin/deno", "bin/tini", "lib/libc.so.6"].map((name) => ({
    name: `the agent's ${name} cannot be written`,
    run: `os.open("/.caisson/${name}", os.O_WRONLY)`,
    meets: "EROFS",
  })),
  {
    name: "the deno on the PATH cannot be written",
    run: `os.open("/usr/local/bin/deno", os.O_WRONLY)`,
    meets: "EROFS",
  },
  { name: "the agent's files cannot be removed", run: `os.unlink("/.caisson/agent.js")`, meets: "EROFS" },
  { name: "the agent's files cannot be given away", run: `os.chown("/.caisson/agent.js", 0, 0)`, meets: "EROFS" },
  { name: "the agent's directory takes no new files", run: `os.mkdir("/.caisson/new")`, meets: "EROFS" },
  { name: "the agent's directory cannot be moved away", run: `os.rename("/.caisson", "/elsewhere")`, meets: "EBUSY" },
  {
    name: "the file behind a read-only mount cannot be written through another process's view of it",
    run: `os.open("/proc/1/root/.caisson/agent.js", os.O_WRONLY)`,
    meets: "EROFS",
  },
  { name: "the agent's log cannot be read", run: `read("/.caisson/run/agent.log")`, meets: "EACCES" },
  {
    name: "the agent's log cannot be opened through its descriptor",
    run: `os.open("/proc/2/fd/1", os.O_RDWR)`,
    meets: "EACCES",
  },
  {
    name: "the place of the agent's socket holds 256 KiB and no more",
    run: `(open("/.caisson/run/flood", "wb").write(b"x" * (1 << 20)))`,
    meets: "ENOSPC",
  },
  {
    name: "nothing can be executed from the place of the agent's socket",
    run: `(os.symlink("/bin/true", "/.caisson/run/link"), os.path.exists("/.caisson/run/link"), open("/.caisson/run/program", "w").close(), os.chmod("/.caisson/run/program", 0o755), os.execv("/.caisson/run/program", ["x"]))`,
    meets: "EACCES",
  },
  {
    name: "an unprivileged user cannot write to /etc/hosts",
    run: `(os.setuid(1000), os.open("/etc/hosts", os.O_WRONLY))`,
    meets: "EACCES",
  },
  {
    name: "/etc/hosts holds no more than the place of the agent's socket",
    run: `open("/etc/hosts", "ab").write(b"#" * (1 << 20))`,
    meets: "ENOSPC",
  },
  {
    name: "/etc/resolv.conf cannot be replaced",
    run: `os.rename("/etc/hostname", "/etc/resolv.conf")`,
    meets: "EBUSY",
  },
];

/**
 * What the host has and a sandbox must not find: the server's directory `host_directory`, a process and a socket named `host_mark`, and another
 * sandbox's volume `other_volume`, which is the loop device `other_device`.
 */
export const hostAttempts: readonly Attempt[] = [
  {
    name: "no mount shows a path of the host",
    run: `lines_that_name("/proc/self/mountinfo", host_directory)`,
    meets: "[]",
  },
  {
    name: "no file, link or name in all of /proc and /sys shows a path of the host or another sandbox's volume",
    run: `kernel_files_that_name([host_directory, other_volume, other_device + "\\n", other_device + " ", other_device + "/"])`,
    meets: "[]",
  },
  {
    name: "a plain mount names the sandbox's own file systems, without paths of the host",
    run: `[line for line in os.popen("mount").read().splitlines() if host_directory in line or "/pool/" in line]`,
    meets: "[]",
  },
  { name: "no descriptor shows a path of the host", run: `links_that_name(host_directory)`, meets: "[]" },
  {
    name: "every mount is of the sandbox's own root, volume, of the agent's bundle, of lxcfs, or of the kernel's file systems",
    run: `sorted({line.split(" - ")[1].split()[0] for line in open("/proc/self/mountinfo")} - {"cgroup", "cgroup2"})`,
    meets: "['devpts', 'devtmpfs', 'ext4', 'fuse.lxcfs', 'mqueue', 'overlay', 'proc', 'sysfs', 'tmpfs']",
  },
  { name: "the server's data are not there", run: `os.listdir(host_directory)`, meets: "ENOENT" },
  {
    name: "the server's data are not there under any process's root either",
    run: `[path for path in glob.glob("/proc/[0-9]*/root" + host_directory)]`,
    meets: "[]",
  },
  {
    name: "climbing above the root leads to the root",
    run: `os.path.exists("/../../../../../.." + host_directory)`,
    meets: "False",
  },
  {
    name: "climbing above another process's root leads to the same root",
    run: `os.path.exists("/proc/1/root/../../../.." + host_directory)`,
    meets: "False",
  },
  {
    name: "an abstract socket of the host cannot be reached",
    run: `connect_abstract(host_mark)`,
    meets: "ECONNREFUSED",
  },
  {
    name: "sockets of the host are not listed",
    run: `lines_that_name("/proc/net/unix", host_mark)`,
    meets: "[]",
  },
  {
    name: "processes of the host are not listed",
    run: `[pid for pid in glob.glob("/proc/[0-9]*/cmdline") if int(pid.split("/")[2]) != os.getpid() and host_mark in read(pid)]`,
    meets: "[]",
  },
  {
    name: "System V shared memory of the host is not shown",
    run: `len(open("/proc/sysvipc/shm").readlines())`,
    meets: "1",
  },
  {
    name: "System V semaphores of the host are not shown",
    run: `len(open("/proc/sysvipc/sem").readlines())`,
    meets: "1",
  },
  { name: "the shared memory directory is the sandbox's own", run: `os.listdir("/dev/shm")`, meets: "[]" },
  { name: "message queues are the sandbox's own", run: `os.listdir("/dev/mqueue")`, meets: "[]" },
  {
    name: "the host name is the sandbox's",
    run: `re.fullmatch("sbx-[a-z]{3}-[0-9a-z]{20}", socket.gethostname()) is not None`,
    meets: "True",
  },
  {
    name: "the cgroups that are shown begin at the sandbox",
    run: `{line.strip().split(":")[2] for line in open("/proc/self/cgroup")}`,
    meets: "{'/'}",
  },
  {
    name: "the interfaces are loopback and the sandbox's own",
    run: `sorted(os.listdir("/sys/class/net"))`,
    meets: "['eth0', 'lo']",
  },
];
