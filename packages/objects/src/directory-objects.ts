import { randomUUID } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { hasErrorCode, step, syncDirectory } from "@caisson/linux";
import { isKey, type ObjectStore, requireKey, type StoredObject } from "./object-store.ts";
import { orAborted } from "./or-aborted.ts";
import { storeUnavailable } from "./store-error.ts";

/** Where objects are written before they get their name. What a crash leaves there is never listed, and goes when it is old: other servers may be writing. */
const PARTIAL = ".partial";
const PARTIAL_AGE_MS = 24 * 3_600_000;

/**
 * Objects as files of a directory, which may be a mounted NFS share or disk. Each is written under another name, synced and renamed, and the directory is synced. The directory must be there:
 * one that is made where a disk is not mounted would be mistaken for the disk.
 */
export class DirectoryObjects implements ObjectStore {
  readonly url: string;
  readonly #directory: string;
  #isTidy = false;

  private constructor(directory: string) {
    this.#directory = directory;
    this.url = pathToFileURL(directory).href;
  }

  /** Does not look at the directory: a store that is away keeps no server from starting. */
  static open(directory: string): DirectoryObjects {
    return new DirectoryObjects(directory);
  }

  async put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    const path = this.#pathOf(key);
    const partial = join(this.#directory, PARTIAL, randomUUID());
    await this.#attempt("store an object", key, signal, async () => {
      await this.#makeDirectory(dirname(partial));
      await this.#tidy();
      await this.#makeDirectory(dirname(path));
      try {
        await step("object-put.write", async () => {
          await using file = await open(partial, "wx", 0o600);
          await file.writeFile(bytes);
          await file.sync();
        });
        signal?.throwIfAborted();
        await step("object-put.rename", () => rename(partial, path));
      } catch (error) {
        await rm(partial, { force: true });
        throw error;
      }
      await step("object-put.sync", () => syncDirectory(dirname(path)));
    });
  }

  async get(key: string, maxBytes: number, signal?: AbortSignal): Promise<Buffer | null> {
    const path = this.#pathOf(key);
    return this.#attempt("read an object", key, signal, async () => {
      try {
        const { size } = await stat(path);
        if (size > maxBytes) throw new Error(`${key} has ${size} bytes, and at most ${maxBytes} are right`);
        return await readFile(path, signal === undefined ? {} : { signal });
      } catch (error) {
        if (!hasErrorCode(error, "ENOENT")) throw error;
        // Where the whole directory is gone, the object is not known to be absent.
        await stat(this.#directory);
        return null;
      }
    });
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncGenerator<StoredObject, void> {
    yield* this.#walk(join(this.#directory, requireKey(prefix.replace(/\/$/, ""))), signal);
  }

  async delete(key: string, signal?: AbortSignal): Promise<void> {
    const path = this.#pathOf(key);
    await this.#attempt("delete an object", key, signal, async () => {
      await stat(this.#directory);
      signal?.throwIfAborted();
      await step("object-delete", () => rm(path, { force: true }));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async *#walk(directory: string, signal: AbortSignal | undefined): AsyncGenerator<StoredObject, void> {
    const below = relative(this.#directory, directory);
    const entries = await this.#attempt("list the objects", below, signal, async () => {
      try {
        return await readdir(directory, { withFileTypes: true });
      } catch (error) {
        if (!hasErrorCode(error, "ENOENT")) throw error;
        await stat(this.#directory);
        return [];
      }
    });
    for (const entry of entries) {
      const key = join(below, entry.name);
      if (!isKey(key)) continue;
      const path = join(directory, entry.name);
      if (entry.isDirectory()) {
        yield* this.#walk(path, signal);
        continue;
      }
      const found = await this.#attempt("list the objects", key, signal, () => stat(path).catch(nullIfAbsent));
      // Deleted since.
      if (found !== null) yield { key, sizeBytes: found.size };
    }
  }

  #pathOf(key: string): string {
    return join(this.#directory, requireKey(key));
  }

  /** Once for each run. */
  async #tidy(): Promise<void> {
    if (this.#isTidy) return;
    this.#isTidy = true;
    const directory = join(this.#directory, PARTIAL);
    for (const name of await readdir(directory)) {
      const found = await stat(join(directory, name)).catch(nullIfAbsent);
      if (found !== null && Date.now() - found.mtimeMs > PARTIAL_AGE_MS)
        await rm(join(directory, name), { force: true });
    }
  }

  /** Makes a directory below the store's own, durably. */
  async #makeDirectory(path: string): Promise<void> {
    if (path === this.#directory) return void (await stat(path));
    const isThere = await stat(path).then(
      () => true,
      () => false,
    );
    if (isThere) return;
    await this.#makeDirectory(dirname(path));
    await mkdir(path, { mode: 0o700 }).catch((error: unknown) => {
      if (!hasErrorCode(error, "EEXIST")) throw error;
    });
    await syncDirectory(dirname(path));
  }

  async #attempt<T>(action: string, key: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    try {
      return await orAborted(signal, work);
    } catch (error) {
      signal?.throwIfAborted();
      const said = error instanceof Error ? error.message : String(error);
      throw storeUnavailable(this.url, explain(error, action), `could not ${action}, ${key}: ${said}`, error);
    }
  }
}

/** What to do about the errors that an administrator meets. */
function explain(error: unknown, action: string): string {
  if (hasErrorCode(error, "ENOENT")) return "the directory is not there. Mount its disk, or make the directory";
  if (hasErrorCode(error, "ENOSPC", "EDQUOT"))
    return "its disk is full. Make room there, or delete snapshots that it holds";
  if (hasErrorCode(error, "EACCES", "EPERM", "EROFS"))
    return "the directory refuses the server. Let it read and write there";
  return `it could not ${action}. The server's log says why`;
}

function nullIfAbsent(error: unknown): null {
  if (hasErrorCode(error, "ENOENT")) return null;
  throw error;
}
