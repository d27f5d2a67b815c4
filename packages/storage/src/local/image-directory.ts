import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { hasErrorCode, openFile, renameFile, syncDirectory, syncFile, truncateFile, unlinkFile } from "@caisson/linux";
import type { BlockImage, ImageId } from "../driver.ts";

/**
 * Images are files, and the directory that holds one tells its state:
 *
 * - `images/<id>`   writable images
 * - `sealed/<id>`   immutable images
 * - `scratch/<id>`  ephemeral images, worthless after a restart
 * - `incoming/…`    images being made; a single rename moves one out when it is whole and on stable storage
 * - `trash/…`       images being removed; a rename moves one in, then its space is freed
 * - `spares/<id>`   a clone of a sealed image that nobody uses yet; `spares/<id>.…` while it is being made. Its time of modification says when it was
 *                   measured last what deleting the sealed image would free
 *
 * So an image exists or does not, whenever the power fails. What is ephemeral, incoming or trash can be emptied at every start, and spares can be made
 * again.
 */
export type ImageState = "images" | "sealed" | "scratch";
const STATES: readonly ImageState[] = ["images", "sealed", "scratch"];
const TRANSIENT = ["scratch", "incoming", "trash"] as const;
const SPARES = "spares";

export interface StoredImage {
  readonly state: ImageState;
  readonly path: string;
  readonly sizeBytes: number;
}

/** An image being made. It becomes visible when it is committed, and goes when it is disposed of before. */
export class IncomingImage implements AsyncDisposable {
  readonly path: string;
  readonly file: FileHandle;
  #isCommitted = false;

  constructor(path: string, file: FileHandle) {
    this.path = path;
    this.file = file;
  }

  /** Makes it visible as `path`. The caller makes sure that this lasts. */
  async commit(path: string): Promise<void> {
    await renameFile(this.path, path);
    this.#isCommitted = true;
  }

  /** Of a spare, when its contents are whole. */
  async setMeasuredAt(measuredAtMs: number): Promise<void> {
    const time = new Date(measuredAtMs);
    await this.file.utimes(time, time);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.file.close();
    if (!this.#isCommitted) await rm(this.path, { force: true });
  }
}

export class ImageDirectory {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Makes the directories. */
  async prepare(): Promise<void> {
    const names = new Set([...STATES, ...TRANSIENT, SPARES]);
    for (const name of names) await mkdir(join(this.path, name), { recursive: true, mode: 0o700 });
    await syncDirectory(this.path);
  }

  /** Throws away what an earlier run left half made or half removed, and what was not to last. */
  async clean(): Promise<void> {
    for (const name of TRANSIENT) {
      for (const entry of await readdir(join(this.path, name))) await unlinkFile(join(this.path, name, entry));
    }
    for (const entry of await readdir(join(this.path, SPARES)))
      if (entry.includes(".")) await unlinkFile(join(this.path, SPARES, entry));
  }

  /** Ids of the sealed images, the oldest first. */
  async listSealed(): Promise<readonly ImageId[]> {
    const directory = join(this.path, "sealed");
    const found = await Promise.all(
      (await readdir(directory)).map(async (id) => ({ id, madeAtMs: (await stat(join(directory, id))).ctimeMs })),
    );
    return found.toSorted((a, b) => a.madeAtMs - b.madeAtMs).map(({ id }) => id);
  }

  sparePathOf(id: ImageId): string {
    return join(this.path, SPARES, id);
  }

  /** Ids of the sealed images that have a spare clone. */
  async listSpares(): Promise<readonly ImageId[]> {
    return readdir(join(this.path, SPARES));
  }

  /** When it was measured last what deleting a sealed image would free, as its spare has it. Null: it has no spare. */
  async spareMeasuredAtMs(id: ImageId): Promise<number | null> {
    try {
      return Math.round((await stat(this.sparePathOf(id))).mtimeMs);
    } catch (error) {
      if (hasErrorCode(error, "ENOENT")) return null;
      throw error;
    }
  }

  /** Opens a new empty file for a spare of the sealed image. */
  async createSpare(id: ImageId): Promise<IncomingImage> {
    return createUnder(`${this.sparePathOf(id)}.${randomBytes(6).toString("hex")}`);
  }

  /** Makes the spare of a sealed image the beginning of image `newId`. Null: there is none. */
  async adoptSpare(id: ImageId, newId: ImageId): Promise<IncomingImage | null> {
    const path = this.#incomingPath(newId);
    try {
      await renameFile(this.sparePathOf(id), path);
    } catch (error) {
      if (hasErrorCode(error, "ENOENT")) return null;
      throw error;
    }
    try {
      return new IncomingImage(path, await openFile(path, constants.O_RDWR));
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
  }

  /** Removes the spare of a sealed image and frees its space. None is success. */
  async discardSpare(id: ImageId): Promise<void> {
    const path = this.sparePathOf(id);
    if (!(await isThere(path))) return;
    const trash = join(this.path, "trash", `${id}.${randomBytes(6).toString("hex")}`);
    try {
      await renameFile(path, trash);
    } catch (error) {
      // Somebody else has just removed it, or has taken it.
      if (hasErrorCode(error, "ENOENT")) return;
      throw error;
    }
    await cutFile(trash);
    await unlinkFile(trash);
  }

  /** The directories whose files may be attached. */
  get stateDirectories(): readonly string[] {
    return STATES.map((state) => join(this.path, state));
  }

  pathOf(state: ImageState, id: ImageId): string {
    return join(this.path, state, id);
  }

  async find(id: ImageId): Promise<StoredImage | null> {
    for (const state of STATES) {
      const path = this.pathOf(state, id);
      try {
        return { state, path, sizeBytes: (await stat(path)).size };
      } catch (error) {
        if (!hasErrorCode(error, "ENOENT")) throw error;
      }
    }
    return null;
  }

  async *list(): AsyncGenerator<BlockImage> {
    for (const state of STATES) {
      for (const id of await readdir(join(this.path, state))) {
        const image = await this.find(id);
        if (image?.state === state) yield { id, sizeBytes: image.sizeBytes, isSealed: state === "sealed" };
      }
    }
  }

  /** Opens a new empty file under a name of its own. */
  async createIncoming(id: ImageId): Promise<IncomingImage> {
    return createUnder(this.#incomingPath(id));
  }

  #incomingPath(id: ImageId): string {
    return join(this.path, "incoming", `${id}.${randomBytes(6).toString("hex")}`);
  }

  /** Puts the names of the images in one state on stable storage. */
  async sync(state: ImageState): Promise<void> {
    await syncDirectory(join(this.path, state));
  }

  /** Puts a visible image on stable storage, for a caller that repeats an operation whose end was not certain. */
  async makeDurable({ state, path }: StoredImage): Promise<void> {
    if (state === "scratch") return;
    await using file = await openFile(path, "r");
    await syncFile(file, path);
    await this.sync(state);
  }

  /**
   * Removes the image for good, then frees its space. Also finishes an earlier removal. `unused` resolves when nobody reads the image who opened it
   * before it was removed.
   */
  async remove(id: ImageId, image: StoredImage | null, unused: () => Promise<void>): Promise<void> {
    const trash = join(this.path, "trash", id);
    if (image !== null) await renameFile(image.path, trash);
    else if (!(await isThere(trash))) return;
    const states: readonly ImageState[] = image === null ? ["images", "sealed"] : [image.state];
    for (const state of states) if (state !== "scratch") await this.sync(state);
    // XFS frees the blocks of a file that is unlinked some time later; of one that is cut, before the call returns.
    if (image?.state !== "scratch") {
      await unused();
      await cutFile(trash);
    }
    await unlinkFile(trash);
  }
}

async function createUnder(path: string): Promise<IncomingImage> {
  return new IncomingImage(path, await openFile(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600));
}

async function cutFile(path: string): Promise<void> {
  await using file = await openFile(path, "r+");
  await truncateFile(file, 0, path);
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return false;
    throw error;
  }
}
