import { constants } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { openFile, syncFile, truncateFile } from "@caisson/linux";
import type { FillableImage } from "../driver.ts";
import type { Filler } from "./ceph-space.ts";

/** So much is written, at most, between two looks at the room. */
const STRIDE_BYTES = 64 * 2 ** 20;

/** An image that is served as a file, as its filler sees it. */
export class FillableExport implements FillableImage, AsyncDisposable {
  readonly path: string;
  sizeBytes = 0;
  readonly #file: FileHandle;
  readonly #filler: Filler;
  #leftBytes = 0;

  private constructor(path: string, file: FileHandle, filler: Filler) {
    this.path = path;
    this.#file = file;
    this.#filler = filler;
  }

  static async open(path: string, filler: Filler): Promise<FillableExport> {
    return new FillableExport(path, await openFile(path, constants.O_RDWR), filler);
  }

  async setSize(sizeBytes: number): Promise<void> {
    await truncateFile(this.#file, sizeBytes, this.path);
    this.sizeBytes = sizeBytes;
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    if (bytes.length > this.#leftBytes) {
      await this.sync();
      const strideBytes = Math.max(STRIDE_BYTES, bytes.length);
      await this.#filler.claim(strideBytes);
      this.#leftBytes = strideBytes;
    }
    this.#leftBytes -= bytes.length;
    for (let written = 0; written < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, written, bytes.length - written, offset + written);
      written += bytesWritten;
    }
  }

  async sync(): Promise<void> {
    await syncFile(this.#file, this.path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#filler.end();
    await this.#file.close();
  }
}
