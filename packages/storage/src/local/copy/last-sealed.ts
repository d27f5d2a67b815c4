import { mkdir, readdir, readlink, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { renameFile, step } from "@caisson/linux";
import type { ImageId } from "../../driver.ts";
import type { ImageDirectory } from "../image-directory.ts";

const DIRECTORY = "last-sealed";
const UNFINISHED = ".new";

/**
 * Which image was sealed last of each source: the next one is likely to share most with it, so that its spare is a good beginning. It is kept as
 * links, `last-sealed/<source>`, for the next run. They are never synced: a link that a power cut loses or leaves behind costs a copy and nothing else, since
 * whatever a copy begins with, it ends as its source.
 */
export class LastSealed {
  readonly #directory: string;
  readonly #bySource: Map<ImageId, ImageId>;

  private constructor(directory: string, bySource: Map<ImageId, ImageId>) {
    this.#directory = directory;
    this.#bySource = bySource;
  }

  /** Takes over what the run before knew of images that are still there. */
  static async open(images: ImageDirectory): Promise<LastSealed> {
    const directory = join(images.path, DIRECTORY);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const bySource = new Map<ImageId, ImageId>();
    for (const name of await readdir(directory)) {
      const sealed = name.endsWith(UNFINISHED) ? null : await readlink(join(directory, name));
      const isKnown =
        sealed !== null && (await images.find(name)) !== null && (await images.find(sealed))?.state === "sealed";
      if (isKnown) bySource.set(name, sealed);
      else await rm(join(directory, name));
    }
    return new LastSealed(directory, bySource);
  }

  get(source: ImageId): ImageId | null {
    return this.#bySource.get(source) ?? null;
  }

  /** To be called before the sealed image is visible: nothing that can fail comes after that. */
  async set(source: ImageId, sealed: ImageId): Promise<void> {
    const path = join(this.#directory, source);
    const unfinished = `${path}${UNFINISHED}`;
    await step("storage.seal.remember", async () => {
      await rm(unfinished, { force: true });
      await symlink(sealed, unfinished);
      await renameFile(unfinished, path);
    });
    this.#bySource.set(source, sealed);
  }

  /** The source is gone. Unknown is success. */
  async forget(source: ImageId): Promise<void> {
    if (this.#bySource.delete(source)) await rm(join(this.#directory, source), { force: true });
  }
}
