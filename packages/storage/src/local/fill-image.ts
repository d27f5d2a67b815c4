import { step, syncFile, truncateFile } from "@caisson/linux";
import type { FillableImage } from "../driver.ts";
import type { IncomingImage } from "./image-directory.ts";

/** So much is written, at most, between two looks at the room; it is put on stable storage then, so that no more waits in memory, which others need. */
export const STRIDE_BYTES = 64 * 2 ** 20;

/** An incoming image as its filler sees it. `requireSpace` throws where the pool has no room for more. */
export class FillableFile implements FillableImage {
  readonly path: string;
  readonly #image: IncomingImage;
  readonly #requireSpace: () => Promise<void>;
  #unsyncedBytes = STRIDE_BYTES;

  constructor(image: IncomingImage, requireSpace: () => Promise<void>) {
    this.path = image.path;
    this.#image = image;
    this.#requireSpace = requireSpace;
  }

  async setSize(sizeBytes: number): Promise<void> {
    await truncateFile(this.#image.file, sizeBytes, this.path);
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    if (this.#unsyncedBytes >= STRIDE_BYTES) {
      await step("storage.fill.sync", () => syncFile(this.#image.file, this.path));
      await this.#requireSpace();
      this.#unsyncedBytes = 0;
    }
    this.#unsyncedBytes += bytes.length;
    for (let written = 0; written < bytes.length; ) {
      const { bytesWritten } = await this.#image.file.write(bytes, written, bytes.length - written, offset + written);
      written += bytesWritten;
    }
  }
}
