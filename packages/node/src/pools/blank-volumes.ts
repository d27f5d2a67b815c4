import { type PersistentWork, undoSoon } from "@caisson/linux";
import { randomCharacters } from "@caisson/model";
import { formatFileSystem, type ImagePiece, type StorageDriver, withNewIdentity } from "@caisson/storage";
import { withDevice } from "../disks/with-device.ts";

/** Larger volumes are formatted one by one: there are few, and what makes one grows with its size, 4 MiB for 20 GB. */
const MAX_VOLUME_BYTES = 64e9;
/** What all templates may keep in memory. */
const MAX_TEMPLATES_BYTES = 32 * 2 ** 20;

interface Template {
  readonly content: Promise<readonly ImagePiece[]>;
  /** 0 while it is being made. */
  bytes: number;
}

/**
 * What blank volumes begin with. Formatting takes a tool, a device and ten milliseconds, and gives the same few blocks for every volume of a size; so
 * the first of each size is formatted as a template that is kept in memory, and volumes are written from it, each with an identity of its own. A crash
 * leaves nothing: templates are made on ephemeral images.
 */
export class BlankVolumes {
  readonly #context: { readonly persistent: PersistentWork };
  readonly #storage: StorageDriver;
  /** By capacity and inodes, the one that was used longest ago first. */
  readonly #templates = new Map<string, Template>();

  constructor(context: { readonly persistent: PersistentWork }, storage: StorageDriver) {
    this.#context = context;
    this.#storage = storage;
  }

  /** Whether volumes of this size are written from a template; others are to be formatted on their devices. */
  hasTemplate(capacityBytes: number): boolean {
    return capacityBytes <= MAX_VOLUME_BYTES;
  }

  /** The content of a new file system of this size; `inodes` as for `formatFileSystem`. */
  async contentOf(capacityBytes: number, inodes: number | null): Promise<readonly ImagePiece[]> {
    const key = `${capacityBytes} ${inodes}`;
    const template = this.#templates.get(key) ?? { content: this.#make(capacityBytes, inodes), bytes: 0 };
    this.#templates.delete(key);
    this.#templates.set(key, template);
    try {
      const content = await template.content;
      template.bytes = content.reduce((sum, { bytes }) => sum + bytes.length, 0);
      this.#forgetOld();
      return withNewIdentity(content);
    } catch (error) {
      if (this.#templates.get(key) === template) this.#templates.delete(key);
      throw error;
    }
  }

  async #make(sizeBytes: number, inodes: number | null): Promise<readonly ImagePiece[]> {
    const storage = this.#storage;
    const id = `scr_blank-${randomCharacters(20)}`;
    try {
      await storage.createImage(id, { sizeBytes, isEphemeral: true });
      await withDevice(this.#context, storage, id, (path) => formatFileSystem(path, "data", { inodes }));
      return await storage.readPieces(id);
    } finally {
      const description = { work: "delete the image of a template", objectId: id };
      await undoSoon(this.#context.persistent, description, () => storage.deleteImage(id));
    }
  }

  #forgetOld(): void {
    let left = MAX_TEMPLATES_BYTES;
    for (const [key, { bytes }] of [...this.#templates].reverse()) {
      left -= bytes;
      if (left < 0) this.#templates.delete(key);
    }
  }
}
