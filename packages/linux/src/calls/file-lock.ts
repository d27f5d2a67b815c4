import { type FileHandle, open, stat } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { call } from "./ffi.ts";
import { hasErrorCode } from "./kernel-error.ts";

const LOCK_EX = 2;
const LOCK_NB = 4;
const POLL_MS = 100;

/** Node closes a file that nothing refers to any more, and with it the lock would go while its owner counts on it. */
const held = new Set<FileLock>();

/** An exclusive lock on a file, held until it is released or the process ends, however it ends. */
export class FileLock implements AsyncDisposable {
  readonly #file: FileHandle;

  constructor(file: FileHandle) {
    this.#file = file;
    held.add(this);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
    held.delete(this);
  }
}

/** Takes the lock on `path`, which is made when missing, or returns `null` when another holds it. */
async function tryLockFile(path: string): Promise<FileLock | null> {
  const file = await open(path, "a", 0o600);
  try {
    await call("flock", [file.fd, LOCK_EX | LOCK_NB], { name: "flock", detail: path });
    if (await isStillThere(file, path)) return new FileLock(file);
    await file.close();
    return null;
  } catch (error) {
    await file.close();
    if (hasErrorCode(error, "EAGAIN")) return null;
    throw error;
  }
}

/** Whether the path leads to the file, which its last owner may have removed meanwhile. */
async function isStillThere(file: FileHandle, path: string): Promise<boolean> {
  const [own, now] = await Promise.all([file.stat(), stat(path).catch(() => null)]);
  return own.ino === now?.ino && own.dev === now.dev;
}

/** Waits for the lock on `path`. It asks again and again, because a wait inside the kernel could not be aborted. */
export async function lockFile(
  path: string,
  options: { readonly signal?: AbortSignal; readonly onWait?: () => void } = {},
): Promise<FileLock> {
  for (let attempt = 0; ; attempt += 1) {
    options.signal?.throwIfAborted();
    const lock = await tryLockFile(path);
    if (lock !== null) return lock;
    if (attempt === 0) options.onWait?.();
    await delay(POLL_MS, undefined, options.signal === undefined ? {} : { signal: options.signal });
  }
}
