import type { Attempt } from "./attempts.ts";

const NAMESPACES = ["NS", "CGROUP", "UTS", "IPC", "USER", "PID", "NET"];

export const namespaceAttempts: readonly Attempt[] = [
  ...[...NAMESPACES, "TIME"].map((kind) => ({
    name: `unshare(CLONE_NEW${kind}) is refused`,
    run: `call("unshare", CLONE["CLONE_NEW${kind}"])`,
    meets: "EPERM",
  })),
  ...NAMESPACES.map((kind) => ({
    name: `clone(CLONE_NEW${kind}) is refused`,
    run: `clone_namespace(CLONE["CLONE_NEW${kind}"])`,
    meets: "EPERM",
  })),
  {
    name: "garbage in the upper half of the flags does not get past the filter",
    run: `call("unshare", (1 << 32) | CLONE["CLONE_NEWUSER"])`,
    meets: "EPERM",
  },
  {
    name: "clone3, whose flags a filter cannot see, does not exist",
    run: `clone3_namespace(CLONE["CLONE_NEWUSER"])`,
    meets: "ENOSYS",
  },
  ...["mnt", "user", "pid", "net"].map((kind) => ({
    name: `setns into the ${kind} namespace of the first process is refused`,
    run: `enter("${kind}")`,
    meets: "EPERM",
  })),
  {
    name: "setns through a process descriptor is refused",
    run: `call("setns", call("pidfd_open", 1, 0), CLONE["CLONE_NEWNS"] | CLONE["CLONE_NEWPID"])`,
    meets: "EPERM",
  },
  {
    name: "the parent of the PID namespace cannot be opened",
    run: `fcntl.ioctl(os.open("/proc/self/ns/pid", os.O_RDONLY), NS_GET_PARENT)`,
    meets: "EPERM",
  },
  {
    name: "the parent of the user namespace cannot be opened",
    run: `fcntl.ioctl(os.open("/proc/self/ns/user", os.O_RDONLY), NS_GET_PARENT)`,
    meets: "EPERM",
  },
  { name: "the host name cannot be changed", run: `call("sethostname", "host", 4)`, meets: "EPERM" },
  { name: "the domain name cannot be changed", run: `call("setdomainname", "host", 4)`, meets: "EPERM" },
];

export const privilegeAttempts: readonly Attempt[] = [
  {
    name: "the capabilities are the documented ten, and no program can have others",
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP.
    run: `bounding_set()`,
    meets: "[0, 1, 3, 4, 5, 6, 7, 10, 18, 31]",
  },
  {
    name: "no capability is inherited or ambient",
    run: `status("CapInh"), status("CapAmb")`,
    meets: "('0000000000000000', '0000000000000000')",
  },
  { name: "further capabilities cannot be taken", run: `raise_capabilities()`, meets: "EPERM" },
  { name: "system calls are filtered", run: `status("Seccomp")`, meets: "2" },
  {
    name: "a setuid program gains ids of the sandbox, but no capability beyond its set",
    run: `os.popen("setpriv --reuid 1000 --clear-groups sh -c 'su --help >/dev/null; grep CapBnd /proc/self/status'").read().split()[1]`,
    meets: "00000000800404fb",
  },
  { name: "system calls of 32-bit programs end the process", run: `int_0x80(20)`, meets: "SIGSYS" },
  {
    name: "system calls of the x32 kind end the process or do not exist",
    run: `libc.syscall(ctypes.c_long(0x40000000 + 39)) if platform.machine() == "x86_64" else os.kill(os.getpid(), 31)`,
    meets: /^(SIGSYS|-1)$/,
  },
  ...["0, 0", "1 << 20, 1 << 20"].map((limits) => ({
    name: `the limit of core files stays at 1 byte, which keeps core handlers of the host asleep, whatever is asked for (${limits})`,
    run: `(resource.setrlimit(resource.RLIMIT_CORE, (${limits})), resource.getrlimit(resource.RLIMIT_CORE))`,
    meets: "(None, (1, 1))",
  })),
  {
    name: "nor is it changed by the older call, for another process, or with garbage in the upper half of the argument",
    run: `[(call("setrlimit", 4 | high, struct.pack("QQ", 0, 0)), call("prlimit64", pid, 4 | high, struct.pack("QQ", 0, 0), None), outcome_of("resource.prlimit(0, 4, (0, 0))"), resource.prlimit(pid, 4)) for high in (0, 1 << 32) for pid in (0, os.getppid())]`,
    meets: "[(0, 0, 'EPERM', (1, 1)), (0, 0, 'EPERM', (1, 1)), (0, 0, 'EPERM', (1, 1)), (0, 0, 'EPERM', (1, 1))]",
  },
  {
    name: "other limits are lowered as ever",
    run: `(resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200)), resource.getrlimit(resource.RLIMIT_NOFILE), resource.prlimit(0, resource.RLIMIT_STACK, (1 << 20, 1 << 20))[0] > 0, resource.getrlimit(resource.RLIMIT_STACK))`,
    meets: "(None, (100, 200), True, (1048576, 1048576))",
  },
  {
    name: "address randomisation cannot be turned off for setuid programs",
    run: `call("personality", 0x0040000)`,
    meets: "EPERM",
  },
  {
    name: "real-time scheduling is refused",
    run: `os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))`,
    meets: "EPERM",
  },
  {
    name: "a priority above the normal one is refused",
    run: `os.setpriority(os.PRIO_PROCESS, 0, -10)`,
    meets: "EACCES",
  },
  { name: "real-time disk priority is refused", run: `call("ioprio_set", 1, 0, 1 << 13)`, meets: "EPERM" },
  {
    name: "another user's file stays closed to an unprivileged user",
    run: `(os.setuid(1000), open("/etc/shadow"))`,
    meets: "EACCES",
  },
];

export const processAttempts: readonly Attempt[] = [
  {
    name: "no process outside is visible: every one has its first PID namespace in here",
    run: `[pid for pid in os.listdir("/proc") if pid.isdigit() and len(lines_that_name(f"/proc/{pid}/status", "NSpid")[0].split()) != 2]`,
    meets: "[]",
  },
  {
    name: "the first process is the sandbox's init",
    run: `read("/proc/1/cmdline").split("\\0")[0]`,
    meets: "/.caisson/bin/tini",
  },
  { name: "a process outside cannot be traced", run: `call("ptrace", PTRACE_ATTACH, 4000000, 0, 0)`, meets: "ESRCH" },
  { name: "a process outside cannot be read", run: `read_memory(4000000)`, meets: "ESRCH" },
  {
    name: "the parent of the first process has no number",
    run: `lines_that_name("/proc/1/status", "PPid")`,
    meets: "['PPid:\\t0']",
  },
  {
    name: "killing everything does not end the first process",
    run: `(os.kill(1, signal.SIGKILL), os.kill(1, 0))`,
    meets: "(None, None)",
  },
  {
    name: "the program of the first process cannot be overwritten",
    run: `os.open("/proc/1/exe", os.O_WRONLY)`,
    meets: "EROFS",
  },
  {
    name: "no program is reached through the first process's parent directory links",
    run: `os.stat("/proc/1/root/..").st_ino == os.stat("/").st_ino`,
    meets: "True",
  },
];

export const systemCallAttempts: readonly Attempt[] = [
  { name: "add_key is refused", run: `call("add_key", "user", "x", b"secret", 6, -3)`, meets: "EPERM" },
  { name: "keyctl cannot read the session's keyring", run: `call("keyctl", 0, -3, 0)`, meets: "EPERM" },
  {
    name: "request_key cannot start a helper on the host",
    run: `call("request_key", "user", "x", "y", -3)`,
    meets: "EPERM",
  },
  { name: "bpf programs are refused", run: `call("bpf", 5, b"\\0" * 128, 128)`, meets: "EPERM" },
  { name: "bpf maps are refused", run: `call("bpf", 0, b"\\0" * 128, 128)`, meets: "EPERM" },
  { name: "perf_event_open is refused", run: `call("perf_event_open", b"\\0" * 128, 0, -1, -1, 0)`, meets: "EPERM" },
  { name: "io_uring does not exist", run: `call("io_uring_setup", 8, b"\\0" * 256)`, meets: "ENOSYS" },
  { name: "userfaultfd is refused", run: `call("userfaultfd", 0)`, meets: "EPERM" },
  { name: "userfaultfd for user mode only is refused, too", run: `call("userfaultfd", 1)`, meets: "EPERM" },
  { name: "another kernel cannot be loaded", run: `call("kexec_load", 0, 0, 0, 0)`, meets: "EPERM" },
  {
    name: "another kernel cannot be loaded from a file",
    run: `call("kexec_file_load", 0, 0, 0, "", 0)`,
    meets: "EPERM",
  },
  { name: "init_module is refused", run: `call("init_module", b"", 0, "")`, meets: "EPERM" },
  { name: "finit_module is refused", run: `call("finit_module", 0, "", 0)`, meets: "EPERM" },
  { name: "delete_module is refused", run: `call("delete_module", "loop", 0)`, meets: "EPERM" },
  {
    name: "the machine cannot be restarted",
    run: `call("reboot", 0xFEE1DEAD, 0x28121969, 0x1234567, 0)`,
    meets: "EPERM",
  },
  { name: "swap cannot be turned on", run: `call("swapon", "/tmp/attempts.py", 0)`, meets: "EPERM" },
  { name: "swap cannot be turned off", run: `call("swapoff", "/dev/vda")`, meets: "EPERM" },
  { name: "quotas cannot be changed", run: `call("quotactl", 0x800002 << 8, "/dev/vda", 0, 0)`, meets: "EPERM" },
  { name: "process accounting is refused", run: `call("acct", "/tmp/account")`, meets: "EPERM" },
  { name: "the clock cannot be set", run: `call("clock_settime", 0, struct.pack("qq", 0, 0))`, meets: "EPERM" },
  { name: "the time of day cannot be set", run: `call("settimeofday", struct.pack("qq", 0, 0), None)`, meets: "EPERM" },
  {
    name: "the clock cannot be tuned",
    run: `call("adjtimex", struct.pack("I", 0x4000) + b"\\0" * 204)`,
    meets: "EPERM",
  },
  { name: "nfsservctl does not exist", run: `call("nfsservctl", 0, 0, 0)`, meets: "ENOSYS" },
  {
    name: "the kernel log cannot be read",
    run: `call("syslog", 3, ctypes.create_string_buffer(64), 64)`,
    meets: "EPERM",
  },
  { name: "the terminal cannot be hung up", run: `call("vhangup")`, meets: "EPERM" },
  { name: "I/O ports are refused", run: `call("iopl", 3)`, meets: /^(EPERM|ENOSYS)$/ },
  { name: "single I/O ports are refused", run: `call("ioperm", 0, 1, 1)`, meets: /^(EPERM|ENOSYS)$/ },
  { name: "segments of 16-bit programs are refused", run: `call("modify_ldt", 0, 0, 0)`, meets: /^(EPERM|ENOSYS)$/ },
  {
    name: "lookup_dcookie is refused",
    run: `call("lookup_dcookie", 0, ctypes.create_string_buffer(8), 8)`,
    meets: "EPERM",
  },
  { name: "fanotify is refused", run: `call("fanotify_init", 0, 0)`, meets: "EPERM" },
  { name: "kcmp is refused", run: `call("kcmp", 1, 1, 0, 0, 0)`, meets: "EPERM" },
  { name: "pages cannot be spliced into pipes from user memory", run: `call("vmsplice", 1, 0, 0, 0)`, meets: "EPERM" },
  {
    name: "a packet socket cannot be opened",
    run: `open_socket(socket.AF_PACKET, socket.SOCK_RAW)`,
    meets: "EAFNOSUPPORT",
  },
  {
    name: "a raw IPv4 socket cannot be opened",
    run: `open_socket(socket.AF_INET, socket.SOCK_RAW, 255)`,
    meets: "EPERM",
  },
  {
    name: "a raw IPv6 socket cannot be opened",
    run: `open_socket(socket.AF_INET6, socket.SOCK_RAW, 255)`,
    meets: "EPERM",
  },
  {
    name: "the hypervisor cannot be reached by a virtual socket",
    run: `open_socket(40, socket.SOCK_STREAM)`,
    meets: "EAFNOSUPPORT",
  },
  {
    name: "the kernel's ciphers cannot be reached",
    run: `open_socket(38, socket.SOCK_SEQPACKET)`,
    meets: "EAFNOSUPPORT",
  },
  {
    name: "a key management socket cannot be opened",
    run: `open_socket(15, socket.SOCK_RAW, 2)`,
    meets: "EAFNOSUPPORT",
  },
  {
    name: "no family but the four that are allowed has a socket",
    run: `[family for family in range(64) if family not in (1, 2, 10, 16) and outcome_of(f"open_socket({family}, 3)") != "EAFNOSUPPORT"]`,
    meets: "[]",
  },
  { name: "a Bluetooth socket cannot be opened", run: `open_socket(31, socket.SOCK_RAW, 1)`, meets: "EAFNOSUPPORT" },
  {
    name: "an audit socket cannot be opened",
    run: `open_socket(socket.AF_NETLINK, socket.SOCK_RAW, 9)`,
    meets: "EINVAL",
  },
  {
    name: "garbage in the upper half of an argument opens neither an audit socket nor another family's",
    run: `[outcome_of(f"call('socket', {family}, 3, {protocol})") for high in (1 << 32, 1 << 63, 0xFFFFFFFF << 32) for family, protocol in ((16, high | 9), (high | 16, 9), (high | 17, 3), (high | 40, 0))]`,
    meets: /^\[('(EINVAL|EAFNOSUPPORT)'(, )?){12}\]$/,
  },
  {
    name: "every other family of netlink is answered by the kernel itself, with such garbage too",
    run: `sorted({outcome_of(f"call('socket', 16, 3, {high | protocol})").isdigit() or outcome_of(f"call('socket', 16, 3, {high | protocol})") for high in (0, 1 << 32) for protocol in (0, 4, 8 | 4, 15)})`,
    meets: "[True]",
  },
];
