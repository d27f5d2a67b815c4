import koffi from "koffi";
import { faultPoint, faultPointSync, InjectedFault } from "../operations/fault.ts";
import { errnoName, KernelError } from "./kernel-error.ts";

/**
 * Calls into the C library. Every call names its fault tag and a detail for the error message, and runs on a worker thread, because
 * almost all of them may wait for a disk or a lock in the kernel. Koffi captures errno on the thread that made the call and restores it for
 * the callback, so reading it there, and only there, is right.
 *
 * System calls that older C libraries have no wrapper for go through `syscall`; their numbers are the same on every architecture.
 */
export type NativeArgument = number | string | Buffer | null | readonly (string | null)[];

interface NativeFunction {
  (...args: readonly NativeArgument[]): number;
  async(...args: readonly unknown[]): void;
}

export interface CallOptions {
  /** The part of the fault tag after `linux.`, and the name in error messages, for example `mount`. */
  readonly name: string;
  /** What the call was about, for the error message, for example `/dev/loop3 on /run/x`. */
  readonly detail: string;
}

/** C prototypes of everything that is called, keyed by the name used here. */
const PROTOTYPES = {
  mount: "int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)",
  umount2: "int umount2(const char *target, int flags)",
  unshare: "int unshare(int flags)",
  setns: "int setns(int fd, int type)",
  sethostname: "int sethostname(const char *name, size_t length)",
  pivotRoot: "int pivot_root(const char *root, const char *old)",
  fchdir: "int fchdir(int fd)",
  chroot: "int chroot(const char *path)",
  mkdirat: "int mkdirat(int fd, const char *path, unsigned int mode)",
  umask: "int umask(unsigned int mask)",
  setfsuid: "int setfsuid(unsigned int id)",
  setfsgid: "int setfsgid(unsigned int id)",
  capget: "int capget(void *header, void *data)",
  capset: "int capset(void *header, void *data)",
  setresid: "long syscall(long number, long real, long effective, long saved)",
  prlimit: "int prlimit(int pid, int resource, void *limit, void *former)",
  ioctlBuffer: "int ioctl(int fd, unsigned long request, void *argument)",
  ioctlNumber: "int ioctl(int fd, unsigned long request, long argument)",
  fcntl: "int fcntl(int fd, int command, int argument)",
  flock: "int flock(int fd, int operation)",
  syncfs: "int syncfs(int fd)",
  getsockopt: "int getsockopt(int fd, int level, int name, void *value, void *length)",
  setsockopt: "int setsockopt(int fd, int level, int name, const void *value, unsigned int length)",
  socket: "int socket(int family, int type, int protocol)",
  connect: "int connect(int fd, const void *address, unsigned int length)",
  mknod: "int mknod(const char *path, unsigned int mode, unsigned long device)",
  fallocate: "int fallocate(int fd, int mode, int64_t offset, int64_t length)",
  openTree: "long syscall(long number, long fd, const char *path, long flags)",
  moveMount: "long syscall(long number, long fromFd, const char *from, long toFd, const char *to, long flags)",
  mountSetattr: "long syscall(long number, long fd, const char *path, long flags, void *attributes, long size)",
  fsopen: "long syscall(long number, const char *type, long flags)",
  fsconfig: "long syscall(long number, long fd, long command, const char *key, const char *value, long extra)",
  fsmount: "long syscall(long number, long fd, long flags, long attributes)",
  pipe2: "int pipe2(void *ends, int flags)",
  posixSpawn:
    "int posix_spawnp(void *pid, const char *name, const void *actions, const void *attributes, const char **arguments, const char **environment)",
  spawnActionsInit: "int posix_spawn_file_actions_init(void *actions)",
  spawnActionsDestroy: "int posix_spawn_file_actions_destroy(void *actions)",
  spawnActionDuplicate: "int posix_spawn_file_actions_adddup2(void *actions, int fd, int newFd)",
  spawnActionOpen:
    "int posix_spawn_file_actions_addopen(void *actions, int fd, const char *path, int flags, unsigned int mode)",
  spawnActionDirectory: "int posix_spawn_file_actions_addchdir_np(void *actions, const char *path)",
  spawnAttributesInit: "int posix_spawnattr_init(void *attributes)",
  spawnAttributesDestroy: "int posix_spawnattr_destroy(void *attributes)",
  spawnSignalDefaults: "int posix_spawnattr_setsigdefault(void *attributes, const void *signals)",
  spawnSignalMask: "int posix_spawnattr_setsigmask(void *attributes, const void *signals)",
  spawnFlags: "int posix_spawnattr_setflags(void *attributes, short flags)",
  waitpid: "int waitpid(int pid, void *status, int options)",
  fspick: "long syscall(long number, long fd, const char *path, long flags)",
  openat2: "long syscall(long number, long fd, const char *path, void *how, long size)",
} as const;

export type NativeName = keyof typeof PROTOTYPES;

const loaded = new Map<NativeName, NativeFunction>();
let library: ReturnType<typeof koffi.load> | undefined;

/** Binds a function when it is first used, so that importing this module does nothing. */
function bind(name: NativeName): NativeFunction {
  const known = loaded.get(name);
  if (known !== undefined) return known;
  if (library === undefined) {
    // Callers bound their own concurrency; the default limit of 256 queued calls would turn a burst into exceptions.
    koffi.config({ max_async_calls: 4096 });
    library = koffi.load("libc.so.6");
  }
  const bound = library.func(PROTOTYPES[name]) as unknown as NativeFunction;
  loaded.set(name, bound);
  return bound;
}

/** Makes the call on a worker thread. Resolves with its result, or rejects with a `KernelError` when that is negative. */
export async function call(name: NativeName, args: readonly NativeArgument[], options: CallOptions): Promise<number> {
  await passFaultPoint(options);
  return new Promise((resolve, reject) => {
    // The arguments stay referenced by this closure until the call has returned, so the memory behind them does too.
    bind(name).async(...args, (error: unknown, result: number) => {
      const errno = koffi.errno();
      if (error !== null) reject(error);
      else if (result < 0) reject(new KernelError(options.name, errnoName(errno), options.detail));
      else resolve(result);
    });
  });
}

/**
 * Makes the call on the thread that it is in, and passes no fault point. Only for a thread of its own that may block, and for calls that must not
 * queue behind others that may be waiting for their effect: a thaw behind four writes to the frozen file system would never run.
 */
export function callSync(name: NativeName, args: readonly NativeArgument[], options: CallOptions): number {
  const result = bind(name)(...args);
  if (result < 0) throw new KernelError(options.name, errnoName(koffi.errno()), options.detail);
  return result;
}

/** The address of a buffer's memory, for structures that hold pointers. The caller keeps the buffer referenced until the call has returned. */
export function addressOf(buffer: Buffer): bigint {
  return BigInt(koffi.address(buffer));
}

/** Passes the fault point of a kernel call; a fault that a test injects looks like the kernel's own error. */
export async function passFaultPoint({ name, detail }: CallOptions): Promise<void> {
  try {
    await faultPoint(`linux.${name.replaceAll(" ", ".")}`);
  } catch (error) {
    if (error instanceof InjectedFault) throw new KernelError(name, error.code, detail, { cause: error });
    throw error;
  }
}

/** The same for a thread that may block. */
export function passFaultPointSync({ name, detail }: CallOptions): void {
  try {
    faultPointSync(`linux.${name.replaceAll(" ", ".")}`);
  } catch (error) {
    if (error instanceof InjectedFault) throw new KernelError(name, error.code, detail, { cause: error });
    throw error;
  }
}
