import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { rm, writeFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { faultPoint, findMount, hasErrorCode, unmount } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { type CephPool, RbdError } from "./rbd-client.ts";

export interface ExportOptions {
  readonly image: string;
  readonly snapshot: string | null;
  readonly isWritable: boolean;
  /** Whether the file's size can be set. */
  readonly isGrowable?: boolean;
  /** The file at which the image is to appear; made, and removed at the end. */
  readonly path: string;
  /** How long the cluster may take to open the image, and to take what was written when it is closed. */
  readonly timeoutMs: number;
}

const DAEMON = "qemu-storage-daemon";
const ERROR_CHARACTERS = 2000;
const LOOK_MS = 5;

/**
 * An image of the cluster as a file, which a process of its own serves: `qemu-storage-daemon`, the cluster's client for hosts whose kernel has none. Writes
 * wait where the cluster does not answer; when the process is ended, they fail instead.
 */
export class RbdExport {
  readonly path: string;
  readonly #process: ChildProcess;
  readonly #timeoutMs: number;
  readonly #exited: Promise<unknown>;

  private constructor(path: string, timeoutMs: number, child: ChildProcess) {
    this.path = path;
    this.#timeoutMs = timeoutMs;
    this.#process = child;
    this.#exited = once(child, "exit").catch(() => undefined);
  }

  static async open(pool: CephPool, options: ExportOptions): Promise<RbdExport> {
    const { path, timeoutMs } = options;
    await writeFile(path, "");
    await faultPoint(`tool.${DAEMON}`);
    const child = spawn(DAEMON, exportArguments(pool, options), {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, CEPH_ARGS: "" },
    });
    let errorOutput = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      errorOutput = (errorOutput + text).slice(-ERROR_CHARACTERS);
    });
    let failure: Error | null = null;
    child.on("error", (error) => (failure = error));
    const opened = new RbdExport(path, timeoutMs, child);
    const deadline = performance.now() + timeoutMs;
    try {
      while ((await findMount(path))?.target !== path) {
        if (failure !== null) throw missingDaemon(failure);
        if (child.exitCode !== null || child.signalCode !== null)
          throw new RbdError("open", { errno: null, message: errorOutput.trim() || `${DAEMON} ended` });
        if (performance.now() > deadline) throw new RbdError("open", { errno: "ETIMEDOUT", message: "no answer" });
        await delay(LOOK_MS);
      }
      return opened;
    } catch (error) {
      await opened.kill();
      throw error;
    }
  }

  /** Ends the process, whatever was not written: every read and write fails from then on. */
  end(): void {
    this.#process.kill("SIGKILL");
  }

  /** Puts everything on the cluster and ends. Where that takes too long, it ends without, and says so. */
  async close(): Promise<void> {
    this.#process.kill("SIGTERM");
    const ended = await Promise.race([this.#exited.then(() => true), delay(this.#timeoutMs, false, { ref: false })]);
    await this.kill();
    if (!ended) throw new RbdError("close", { errno: "ETIMEDOUT", message: "no answer" });
  }

  /** Ends the process and removes the file, whatever was not written. */
  async kill(): Promise<void> {
    if (this.#process.pid !== undefined && this.#process.exitCode === null && this.#process.signalCode === null) {
      this.end();
      await this.#exited;
    }
    if ((await findMount(this.path))?.target === this.path) await unmount(this.path);
    await rm(this.path, { force: true });
  }
}

function exportArguments(
  pool: CephPool,
  { image, snapshot, isWritable, isGrowable = false, path }: ExportOptions,
): readonly string[] {
  const blockdev = {
    driver: "rbd",
    "node-name": "image",
    pool: pool.pool,
    ...(pool.namespace === undefined ? {} : { namespace: pool.namespace }),
    image,
    ...(snapshot === null ? {} : { snapshot }),
    conf: pool.conf,
    user: pool.user,
    discard: "unmap",
    cache: { direct: false },
    "read-only": !isWritable,
  };
  const file = { type: "fuse", id: "file", "node-name": "image", mountpoint: path, writable: isWritable };
  return ["--blockdev", JSON.stringify(blockdev), "--export", JSON.stringify({ ...file, growable: isGrowable })];
}

function missingDaemon(error: Error): Error {
  if (!hasErrorCode(error, "ENOENT")) return error;
  const message = `Cannot attach images of Ceph: ${DAEMON} is missing. Install it: apt-get install qemu-utils qemu-block-extra (on Debian 12 qemu-system-common qemu-block-extra)`;
  return new CaissonError("DISK_UNAVAILABLE", message, { cause: error });
}
