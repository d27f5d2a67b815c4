import { openSync } from "node:fs";
import { isMainThread } from "node:worker_threads";
import { callSync } from "../calls/ffi.ts";

const CLONE_FS = 0x200;
const CLONE_NEWNS = 0x20000;
const CLONE_NEWUTS = 0x4000000;
const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
const UMASK = 0o022;

export interface ForeignNamespaces {
  /** Descriptors of `/proc/<pid>/ns/uts` and `/proc/<pid>/ns/mnt`. */
  readonly uts: number;
  readonly mount: number;
}

/**
 * The namespaces of a thread of its own, which can visit those of others. All calls are synchronous: between `enter` and `leave` the thread is nowhere
 * else. From the first instance on the thread has a root, a current directory and a umask (022) of its own, because the kernel lets no thread that
 * shares them enter a mount namespace.
 */
export class HomeNamespaces {
  readonly #mount: number;
  readonly #uts: number;
  readonly #root: number;

  constructor() {
    // Threads that the main one makes would have its root.
    if (isMainThread) throw new Error("Only a thread of its own may leave the namespaces of its process");
    callSync("unshare", [CLONE_FS], { name: "unshare", detail: "the root directory" });
    callSync("umask", [UMASK], { name: "umask", detail: "" });
    this.#mount = openSync("/proc/thread-self/ns/mnt", "r");
    this.#uts = openSync("/proc/thread-self/ns/uts", "r");
    this.#root = openSync("/", O_PATH | O_CLOEXEC);
  }

  /** Gives the host name in the UTS namespace, and enters the mount namespace. The thread's root is then the root of that namespace. */
  enter({ uts, mount }: ForeignNamespaces, hostname: string): void {
    callSync("setns", [uts, CLONE_NEWUTS], { name: "setns", detail: "uts" });
    callSync("sethostname", [hostname, Buffer.byteLength(hostname)], { name: "sethostname", detail: hostname });
    callSync("setns", [mount, CLONE_NEWNS], { name: "setns", detail: "mnt" });
  }

  /** Comes back from wherever the thread is. Where that fails, the thread must end. */
  leave(): void {
    const options = { name: "setns", detail: "back" };
    callSync("setns", [this.#mount, CLONE_NEWNS], options);
    callSync("setns", [this.#uts, CLONE_NEWUTS], options);
    callSync("fchdir", [this.#root], { name: "fchdir", detail: "back" });
    // setns gives the root of the namespace, which is not that of a server in a chroot.
    callSync("chroot", ["."], { name: "chroot", detail: "back" });
  }
}
