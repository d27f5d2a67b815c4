import { posix } from "node:path";
import { errors } from "../../internal/error-object.ts";
import { streamFrom } from "../../internal/streams.ts";
import { SeekMode } from "../fs-file.ts";
import type { SandboxFs } from "../sandbox-fs.ts";
import { type Block, type Content, filled, lengthOf, type Target } from "./sides.ts";

/** What the owner needs in a directory to put something into it. */
const OWNER = 0o700;
const OWNER_WRITES = 0o200;
const NOTHING = new Uint8Array();

/** A sandbox, written until the signal is aborted. */
export class SandboxTarget implements Target {
  readonly #fs: SandboxFs;
  readonly #options: { readonly signal?: AbortSignal };

  constructor(fs: SandboxFs, signal: AbortSignal | undefined) {
    this.#fs = fs;
    this.#options = signal === undefined ? {} : { signal };
  }

  resolve(path: string): string {
    return path;
  }

  join(directory: string, name: string): string {
    return posix.join(directory, name);
  }

  async makeDirectory(path: string, mode: number, isRoot: boolean): Promise<(() => Promise<void>) | null> {
    const fs = this.#fs;
    if (isRoot) await fs.mkdir(posix.dirname(path), { recursive: true, ...this.#options });
    const finish = (): Promise<void> => fs.chmod(path, mode, this.#options);
    try {
      await fs.mkdir(path, { mode: mode | OWNER, ...this.#options });
      return finish;
    } catch (error) {
      if (!(error instanceof errors.AlreadyExists)) throw error;
    }
    const existing = await fs.stat(path, this.#options);
    if (!existing.isDirectory) throw new TypeError(`Cannot copy a directory to ${path}: there is a file`);
    if ((existing.mode & OWNER) === OWNER) return null;
    // An earlier copy of a read-only directory. Somebody else's directory refuses this, and then refuses the content or not.
    const opened = await fs.chmod(path, existing.mode | OWNER, this.#options).then(
      () => true,
      () => false,
    );
    return opened ? finish : null;
  }

  async writeFile(path: string, content: Uint8Array, mode: number): Promise<void> {
    const fs = this.#fs;
    try {
      await fs.writeFile(path, content, { createNew: true, mode, ...this.#options });
      return;
    } catch (error) {
      if (!(error instanceof errors.AlreadyExists)) throw error;
    }
    const { isFile, isSymlink } = await fs.lstat(path, this.#options);
    try {
      // Writing into a named pipe would wait for a reader, and into a device would not make a copy.
      if (!isFile && !isSymlink) throw new errors.PermissionDenied("in the way");
      await fs.writeFile(path, content, { mode, ...this.#options });
    } catch (error) {
      if (!(error instanceof errors.PermissionDenied)) throw error;
      await fs.remove(path, this.#options);
      await fs.writeFile(path, content, { createNew: true, mode, ...this.#options });
    }
  }

  async writeBlocks(path: string, content: Content, mode: number): Promise<void> {
    await this.writeFile(path, NOTHING, mode | OWNER_WRITES);
    await this.overwrite(path, content, mode);
  }

  async overwrite(path: string, { isSparse, blocks }: Content, mode: number): Promise<void> {
    if (isSparse) await this.#overwriteSparsely(path, blocks, mode);
    else await this.#fs.writeFile(path, streamFrom(filled(blocks)), { mode, ...this.#options });
  }

  /** Each block waits for the one before; what is saved are the holes. */
  async #overwriteSparsely(path: string, blocks: AsyncIterable<Block>, mode: number): Promise<void> {
    await using file = await this.#fs.open(path, { write: true, create: true, truncate: true, mode, ...this.#options });
    let [length, position] = [0, 0];
    for await (const block of blocks) {
      if (typeof block !== "number") {
        // Once for a whole hole, however many pieces it came in.
        if (position !== length) await file.seek(length, SeekMode.Start, this.#options);
        await file.writeSparsely(block, this.#options);
        position = length + block.byteLength;
      }
      length += lengthOf(block);
    }
    await file.truncate(length, this.#options);
    await this.#fs.chmod(path, mode, this.#options);
  }

  async link(path: string, text: string): Promise<void> {
    try {
      await this.#fs.symlink(text, path, this.#options);
    } catch (error) {
      if (!(error instanceof errors.AlreadyExists)) throw error;
      await this.#fs.remove(path, this.#options);
      await this.#fs.symlink(text, path, this.#options);
    }
  }
}
