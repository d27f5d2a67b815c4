import { CaissonError } from "@caisson/model";
import type { ImageId, OpenImage } from "../driver.ts";
import { type DiffExtent, type RbdClient, RbdError } from "./rbd-client.ts";
import { type ImageRow, isThere, type Register } from "./register.ts";

interface Owner {
  readonly client: () => Promise<RbdClient>;
  readonly register: Register;
  readonly run: <T>(task: () => Promise<T>) => Promise<T>;
  readonly onClosed: (image: OpenRbdImage) => void;
}

/** Reads a sealed image. Its row is gone before its contents are, so that a look at it after reading tells whether what was read is the image's. */
export class OpenRbdImage implements OpenImage {
  readonly sizeBytes: number;
  readonly #id: ImageId;
  readonly #row: ImageRow;
  readonly #owner: Owner;
  #isClosed = false;

  constructor(id: ImageId, row: ImageRow, owner: Owner) {
    this.#id = id;
    this.#row = row;
    this.#owner = owner;
    this.sizeBytes = row.sizeBytes;
  }

  async *data(): AsyncGenerator<{ readonly offset: number; readonly length: number }, void> {
    const { image, snapshot } = this.#row;
    const options = { image, imageId: null, since: null, snapshot, hasParent: true, isWhole: false };
    const extents = await this.#whole((client): Promise<readonly DiffExtent[]> => client.diff(options));
    for (const [offset, length, isData] of extents) if (isData) yield { offset, length };
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const { image, snapshot } = this.#row;
    const bytes = await this.#whole((client) => client.read(image, snapshot, offset, target.length));
    if (bytes.length < target.length) throw gone();
    target.set(bytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#owner.onClosed(this);
  }

  async #whole<T>(task: (client: RbdClient) => Promise<T>): Promise<T> {
    return this.#owner.run(async () => {
      if (this.#isClosed) throw new CaissonError("SHUTTING_DOWN", `Cannot read image ${this.#id}: it is closed`);
      let answer: T;
      try {
        answer = await task(await this.#owner.client());
      } catch (error) {
        if (error instanceof RbdError && error.code === "ENOENT") throw gone();
        throw error;
      }
      const found = await this.#owner.register.find("image", this.#id);
      const isSame = found !== null && isThere(found.row) && found.row.snapshot === this.#row.snapshot;
      if (!isSame) throw gone();
      return answer;
    });
  }
}

function gone(): CaissonError {
  return new CaissonError(
    "SNAPSHOT_NOT_FOUND",
    "The snapshot was deleted for good while it was read: what was read is not all of it",
  );
}
