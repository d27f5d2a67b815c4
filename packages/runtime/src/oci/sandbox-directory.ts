import { mkdir, readdir, rmdir, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { hasErrorCode, readMounts, unmount } from "@caisson/linux";

/** How long the kernel may take to let go of a mount whose last process is gone. */
const UNMOUNT_DEADLINE_MS = 5_000;
const POLL_MS = 2;

/**
 * The files and mounts of one sandbox on the host. Each mount has a directory of its own directly in here, and removing never descends into
 * one: should a mount ever refuse to go, its directory cannot be removed and what is mounted there stays untouched.
 */
export class SandboxDirectory {
  readonly path: string;
  readonly #mounts: string[] = [];

  constructor(path: string) {
    this.path = path;
  }

  async create(): Promise<void> {
    await mkdir(this.path, { mode: 0o711 });
  }

  /** Writes a file for the host's root alone: the configuration holds the variables that the user set. */
  async write(name: string, content: string): Promise<string> {
    const path = join(this.path, name);
    await writeFile(path, content, { mode: 0o600 });
    return path;
  }

  /** Makes a directory and has `attach` mount something on it. Mounts go in the opposite order. */
  async mount(name: string, attach: (target: string) => Promise<void>): Promise<string> {
    const target = join(this.path, name);
    await mkdir(target, { mode: 0o755 });
    this.#mounts.push(target);
    await attach(target);
    return target;
  }

  /** Undoes everything. Repeating it after a failure continues where it ended. */
  async remove(): Promise<void> {
    await this.unmount();
    await removeFiles(this.path);
  }

  /** Undoes the mounts. What is mounted elsewhere too stays there. */
  async unmount(): Promise<void> {
    for (let target = this.#mounts.at(-1); target !== undefined; target = this.#mounts.at(-1)) {
      await unmountInTime(target);
      await ignoreMissing(rmdir(target));
      this.#mounts.pop();
    }
  }
}

/** Removes the directory of a sandbox of which nothing is known any more. */
export async function removeLeftDirectory(path: string): Promise<void> {
  const mounts = (await readMounts()).filter(({ target }) => target.startsWith(`${path}/`));
  for (const { target } of mounts.reverse()) await unmountInTime(target);
  await removeFiles(path);
}

/**
 * Removes the directory with its files, whoever wrote them: an OCI runtime that was killed leaves half-written ones. Directories in it were
 * places for mounts, and are empty unless a mount is still there, which then stays untouched.
 */
async function removeFiles(path: string): Promise<void> {
  const entries = await readdir(path, { withFileTypes: true }).catch((error: unknown) => {
    if (hasErrorCode(error, "ENOENT")) return [];
    throw error;
  });
  for (const entry of entries) {
    const child = join(path, entry.name);
    await ignoreMissing(entry.isDirectory() ? rmdir(child) : unlinkUnmounted(child));
  }
  await ignoreMissing(rmdir(path));
}

/** An OCI runtime that was killed may have mounted itself on a file. */
async function unlinkUnmounted(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (!hasErrorCode(error, "EBUSY")) throw error;
    await unmountInTime(path);
    await unlink(path);
  }
}

/** Unmounts, and waits while the kernel still counts users of the mount. */
export async function unmountInTime(target: string): Promise<void> {
  const deadline = Date.now() + UNMOUNT_DEADLINE_MS;
  for (;;) {
    try {
      await unmount(target);
      return;
    } catch (error) {
      if (!hasErrorCode(error, "EBUSY") || Date.now() > deadline) throw error;
    }
    await delay(POLL_MS);
  }
}

async function ignoreMissing(removal: Promise<void>): Promise<void> {
  try {
    await removal;
  } catch (error) {
    if (!hasErrorCode(error, "ENOENT")) throw error;
  }
}
