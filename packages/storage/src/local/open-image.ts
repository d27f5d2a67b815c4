import type { FileHandle } from "node:fs/promises";
import { extents, openFile } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { OpenImage } from "../driver.ts";
import type { StoredImage } from "./image-directory.ts";

/** Reads a sealed image by a descriptor of its own. A deletion cuts the file, so that its size tells whether what was read, and the map of its holes, are the image's. */
export class OpenImageFile implements OpenImage {
  readonly sizeBytes: number;
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #onClosed: (image: OpenImageFile) => void;
  #isClosed = false;

  private constructor(file: FileHandle, { path, sizeBytes }: StoredImage, onClosed: (image: OpenImageFile) => void) {
    this.#file = file;
    this.#path = path;
    this.#onClosed = onClosed;
    this.sizeBytes = sizeBytes;
  }

  static async open(image: StoredImage, onClosed: (image: OpenImageFile) => void): Promise<OpenImageFile> {
    return new OpenImageFile(await openFile(image.path, "r"), image, onClosed);
  }

  async *data(): AsyncGenerator<{ readonly offset: number; readonly length: number }, void> {
    for await (const { offset, length, isUnwritten } of extents(this.#file, this.#path)) {
      if (!isUnwritten) yield { offset, length };
    }
    await this.#requireWhole();
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    for (let filled = 0; filled < target.length; ) {
      const { bytesRead } = await this.#file.read(target, filled, target.length - filled, offset + filled);
      if (bytesRead === 0) throw this.#gone();
      filled += bytesRead;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#file.close();
    this.#onClosed(this);
  }

  /** A map that was read after the file was cut shows holes where there was data. */
  async #requireWhole(): Promise<void> {
    if ((await this.#file.stat()).size !== this.sizeBytes) throw this.#gone();
  }

  #gone(): CaissonError {
    return new CaissonError(
      "SNAPSHOT_NOT_FOUND",
      "The snapshot was deleted for good while it was read: what was read is not all of it",
    );
  }
}
