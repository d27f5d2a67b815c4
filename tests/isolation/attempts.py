"""Runs escape attempts inside a sandbox.

Reads Python expressions, and variables that they may use, as JSON from the file named first, evaluates each in a process of its own, and prints a JSON list of outcomes: the value as text, the
name of the errno of an OSError, the name of the signal that ended the process, or "timeout".
"""

import ctypes
import errno
import fcntl
import glob
import json
import mmap
import os
import platform
import re
import resource
import signal
import socket
import stat
import struct
import sys
import tempfile


libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

# Numbers of system calls that the C library does not wrap, or wraps with checks of its own: x86_64, aarch64.
NUMBERS = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "capset": (126, 91),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "listmount": (458, 458),
    "lookup_dcookie": (212, 18),
    "mknodat": (259, 33),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "prlimit64": (302, 261),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "sched_setscheduler": (144, 119),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setrlimit": (160, 164),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "socket": (41, 198),
    "statmount": (457, 457),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
    "vmsplice": (278, 75),
}

MS_RDONLY, MS_NODEV, MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_SHARED = 1, 4, 32, 4096, 8192, 16384, 1 << 20
MNT_DETACH = 2
CLONE = {
    "CLONE_NEWTIME": 0x80,
    "CLONE_NEWNS": 0x20000,
    "CLONE_NEWCGROUP": 0x2000000,
    "CLONE_NEWUTS": 0x4000000,
    "CLONE_NEWIPC": 0x8000000,
    "CLONE_NEWUSER": 0x10000000,
    "CLONE_NEWPID": 0x20000000,
    "CLONE_NEWNET": 0x40000000,
}
AT_FDCWD = -100
PTRACE_ATTACH = 16
NS_GET_USERNS, NS_GET_PARENT = 0xB701, 0xB702
PR_CAPBSET_READ = 23


def call(name, *arguments):
    """A system call by name; text is passed as a C string, None as zero. Raises OSError."""
    number = NUMBERS[name][0 if platform.machine() == "x86_64" else 1]
    if number is None:
        raise OSError(errno.ENOSYS, "not a call of this architecture")
    converted = []
    for argument in arguments:
        if isinstance(argument, str):
            argument = argument.encode()
        if isinstance(argument, bytes):
            argument = ctypes.c_char_p(argument)
        # Unsigned, since tests set the highest bits.
        converted.append(ctypes.c_ulong(argument & (2**64 - 1)) if isinstance(argument, int) else argument)
    result = libc.syscall(ctypes.c_long(number), *converted)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def mount(source, target, kind, flags=0, data=None):
    return call("mount", source, target, kind, flags, data)


def prctl(*arguments):
    result = libc.prctl(*[ctypes.c_ulong(argument) for argument in arguments])
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def write(path, text):
    """What writing gives; opening for writing alone changes nothing on some of the kernel's files."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        return os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def read(path, count=65536):
    with open(path, "rb") as file:
        return file.read(count).decode(errors="replace")


def enter(namespace, pid=1):
    descriptor = os.open(f"/proc/{pid}/ns/{namespace}", os.O_RDONLY)
    return call("setns", descriptor, 0)


def chroot_out():
    """The classic way out of a chroot: keep a directory open, chroot below it, climb from there."""
    before = os.stat("/")
    outside = os.open("/", os.O_RDONLY)
    os.mkdir("/tmp/chroot-out")
    os.chroot("/tmp/chroot-out")
    os.fchdir(outside)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    after = os.stat("/")
    return "own root" if (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino) else os.listdir("/")


def open_by_handle(inode=2):
    """Shocker: opens a file of the underlying file system by a made-up handle (here the root directory of an ext4)."""
    handle = struct.pack("<IiIi", 8, 1, inode, 0)
    mount_descriptor = os.open("/etc/hosts", os.O_RDONLY)
    return call("open_by_handle_at", mount_descriptor, handle, os.O_RDONLY)


def machine_code(code):
    """Runs bytes of machine code as a function without arguments."""
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return ctypes.CFUNCTYPE(ctypes.c_long)(address)()


def int_0x80(number):
    """A system call through the 32-bit entry, which numbers its calls differently."""
    if platform.machine() != "x86_64":
        os.kill(os.getpid(), signal.SIGSYS)
    return machine_code(b"\xb8" + struct.pack("<I", number) + b"\xcd\x80\xc3")


def clone_namespace(flag):
    pid = call("clone", flag | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "a child in a new namespace"


def clone3_namespace(flag):
    arguments = (ctypes.c_uint64 * 11)(flag, 0, 0, 0, signal.SIGCHLD)
    pid = call("clone3", arguments, ctypes.sizeof(arguments))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "a child in a new namespace"


def read_memory(pid):
    buffer = ctypes.create_string_buffer(8)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    return call("process_vm_readv", pid, vector, 1, vector, 1, 0)


def raise_capabilities():
    """Asks for all capabilities of the kernel."""
    header = struct.pack("<Ii", 0x20080522, 0)
    return call("capset", header, struct.pack("<6I", *[0xFFFFFFFF] * 6))


def bounding_set():
    """Names by number of all capabilities that this process, or any program it runs, can ever have."""
    held = []
    for number in range(64):
        try:
            if prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1:
                held.append(number)
        except OSError:
            break
    return held


def status(name):
    for line in read("/proc/self/status").splitlines():
        if line.startswith(f"{name}:"):
            return line.split(":", 1)[1].strip()
    raise KeyError(name)


def foreign_descriptors():
    """Directories and devices that a process of the sandbox holds open, other than the harmless ones."""
    found = []
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            info = os.stat(path)
        except OSError:
            continue
        if int(path.split("/")[2]) == os.getpid() and stat.S_ISDIR(info.st_mode):
            continue
        if stat.S_ISDIR(info.st_mode) or stat.S_ISBLK(info.st_mode):
            found.append(f"{path} -> {os.readlink(path)}")
        if stat.S_ISCHR(info.st_mode) and os.major(info.st_rdev) not in (1, 5, 136):
            found.append(f"{path} -> {os.readlink(path)}")
    return found


def links_that_name(text):
    """Links below /proc that show a path of the host."""
    found = []
    for path in glob.glob("/proc/[0-9]*/fd/*") + glob.glob("/proc/[0-9]*/exe") + glob.glob("/proc/[0-9]*/cwd"):
        try:
            target = os.readlink(path)
        except OSError:
            continue
        if text in target:
            found.append(f"{path} -> {target}")
    return found


def kernel_files_that_name(texts):
    """Everything below /proc and /sys, the files of processes included, whose name, link or content has one of the texts."""
    own = f"/proc/{os.getpid()}"
    found, searched = [], 0
    for top in ("/proc", "/sys"):
        for directory, directories, files in os.walk(top):
            directories[:] = [name for name in directories if f"{directory}/{name}" not in (own, "/proc/self", "/proc/thread-self")]
            for path in [f"{directory}/{name}" for name in directories + files]:
                searched += 1
                if any(text in content for content in (path, content_of(path)) for text in texts):
                    found.append(path)
    return found if searched > 1000 else f"only {searched} files"


def content_of(path):
    """What a link or a file holds; nothing where it cannot be read or has nothing to read at the moment."""
    try:
        if os.path.islink(path):
            return os.readlink(path)
        if os.path.isdir(path):
            return ""
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(descriptor, 1 << 20).decode(errors="replace")
        finally:
            os.close(descriptor)
    except OSError:
        return ""


def lines_that_name(path, text):
    return [line for line in read(path, 1 << 20).splitlines() if text in line]


def roots_of_processes():
    """Where the root links of all processes lead that differ from this process's own root."""
    own = os.stat("/")
    other = []
    for path in glob.glob("/proc/[0-9]*/root"):
        try:
            info = os.stat(path)
        except OSError:
            continue
        if (info.st_dev, info.st_ino) != (own.st_dev, own.st_ino):
            other.append(path)
    return other


def open_socket(family, kind, protocol=0):
    socket.socket(family, kind, protocol).close()
    return "a socket"


def connect(address, port, source=None, timeout=1.5):
    """What a TCP connection meets: "connected", or the errno's name; "timeout" when nothing answers."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        if source is not None:
            client.bind((source, 0))
        try:
            client.connect((address, port))
        except TimeoutError:
            return "timeout"
        return "connected"


def ping(address):
    """One echo request through the unprivileged kind of socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as echo:
        echo.settimeout(1)
        echo.sendto(struct.pack("!BBHHH", 8, 0, 0, 0, 1), (address, 0))
        try:
            echo.recv(64)
        except (TimeoutError, OSError):
            return "no answer"
    return "an answer"


def connect_abstract(name):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect("\0" + name)
    return "connected"


def netlink_route(kind, body):
    """Sends one rtnetlink request and raises the kernel's answer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as route:
        header = struct.pack("=IHHII", 16 + len(body), kind, 0x605, 1, 0)
        route.send(header + body)
        reply = route.recv(65536)
    code = -struct.unpack_from("=i", reply, 16)[0]
    if code != 0:
        raise OSError(code, os.strerror(code))
    return "done"


def netfilter_request():
    """Asks nf_tables for a new table (NFNL_MSG_BATCH_BEGIN, NFT_MSG_NEWTABLE, NFNL_MSG_BATCH_END)."""

    def message(kind, flags, sequence, family, resource, body=b""):
        return struct.pack("=IHHII", 20 + len(body), kind, flags, sequence, 0) + struct.pack("=BBH", family, 0, resource) + body

    name = struct.pack("=HH", 8, 1) + b"own\0"
    batch = message(16, 1, 0, 0, 10 << 8) + message(10 << 8, 0x405, 1, 1, 0, name) + message(17, 1, 2, 0, 10 << 8)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netfilter:
        netfilter.settimeout(2)
        netfilter.send(batch)
        code = -struct.unpack_from("=i", netfilter.recv(65536), 16)[0]
    if code != 0:
        raise OSError(code, os.strerror(code))
    return "done"


def add_address(address):
    """Adds an IPv4 address to eth0 (RTM_NEWADDR)."""
    index = socket.if_nametoindex("eth0")
    packed = socket.inet_aton(address)
    attribute = struct.pack("=HH", 8, 2) + packed
    return netlink_route(20, struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, index) + attribute)


def set_link_down():
    """RTM_NEWLINK without IFF_UP."""
    index = socket.if_nametoindex("eth0")
    return netlink_route(16, struct.pack("=BxHiII", 0, 0, index, 0, 1))


def set_option(level, option, value, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as client:
        client.setsockopt(level, option, value)
    return "set"


def message_queue(name):
    descriptor = libc.mq_open(name.encode(), os.O_RDONLY)
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return "opened"


def outcome_of(expression):
    try:
        return str(eval(expression))
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))


def run(expression, timeout_seconds):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        signal.alarm(timeout_seconds)
        try:
            text = outcome_of(expression)
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode()[:60000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    _, code = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(code):
        return text
    name = signal.Signals(os.WTERMSIG(code)).name
    return "timeout" if name == "SIGALRM" else name


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        attempts = json.load(file)
    globals().update(attempts["variables"])
    outcomes = [run(expression, attempts["timeoutSeconds"]) for expression in attempts["expressions"]]
    json.dump(outcomes, sys.stdout)
