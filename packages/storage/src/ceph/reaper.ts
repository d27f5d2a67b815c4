import { KeyedLock, step } from "@caisson/linux";
import type { ImageId } from "../driver.ts";
import type { CephConnection } from "./ceph-connection.ts";
import type { RbdClient, RbdImage } from "./rbd-client.ts";
import { type Found, hasWriter, type ImageRow, type Register, type WriterRow } from "./register.ts";

/** Names that the driver gives to images of the kinds that there are. Anything else in the pool is somebody else's and is not looked at. */
const OWN_NAME = /^(?:vol|snp|scr|img|cpy)_[a-z0-9_-]+\.[0-9a-f]{12}$/;

/** How long the cluster refuses clients whose processes are gone, so that their traces go. */
export const GONE_SECONDS = 3600;

interface Located {
  readonly info: RbdImage;
  /** The cluster's id of an image in its trash. */
  readonly imageId: string | null;
}

/**
 * Removes images, and what of a block image nobody needs any more: a snapshot without a row and without clones, the contents of a block image that is there
 * for its snapshots only, and the block image with its last snapshot. One without any row, which is there for clones of it, lies in the cluster's trash.
 */
export class Reaper {
  readonly #connection: CephConnection;
  readonly #register: Register;
  readonly #turns = new KeyedLock();

  constructor(connection: CephConnection, register: Register) {
    this.#connection = connection;
    this.#register = register;
  }

  /** Runs a task while nothing of the block image is removed. */
  using<T>(image: string, task: () => Promise<T>): Promise<T> {
    return this.#turns.run([image], task);
  }

  /**
   * Removes an image for good, also one that is half made or half removed. `VOLUME_IN_USE` where another server has begun to write to it.
   * `owner`: the host that is to finish it after a crash, or whose fence is. Default: this one.
   */
  async remove(id: ImageId, found: Found<ImageRow>, owner = this.#connection.owner): Promise<void> {
    const deleting = await step("storage.delete.intent", () =>
      this.#register.replace("image", id, found, { ...found.row, state: "deleting", owner }),
    );
    // A server that attaches it writes that down first and then looks whether it is there: one of the two sees the other.
    const writer = (await this.#register.find("writer", id))?.row ?? null;
    if (writer !== null && this.#isOther(writer) && (await this.#register.find("fenced", writer.instance)) === null) {
      await this.#register.replace("image", id, deleting, found.row);
      throw hasWriter(`delete image ${id}`, writer);
    }
    await step("storage.delete.reap", () => this.reap(found.row.image));
    await step("storage.delete.forget", () => this.#register.replace("image", id, deleting, null));
  }

  /** Again does what is left to do. */
  async reap(image: string): Promise<void> {
    const parent = await this.using(image, () => this.#reapOne(image));
    if (parent !== null && OWN_NAME.test(parent)) await this.reap(parent);
  }

  /** What lies in the trash for clones that are gone. */
  async reapTrash(): Promise<void> {
    for (const { name } of await (await this.#connection.client()).trash())
      if (OWN_NAME.test(name)) await this.reap(name);
  }

  /** The name of its parent, when it is gone and that may be of no use any more. */
  async #reapOne(image: string): Promise<string | null> {
    const client = await this.#connection.client();
    const located = await locate(client, image);
    if (located === null) return null;
    const { info, imageId } = located;
    const rows = [...(await this.#register.list("image")).values()];
    const users = rows.map(({ row }) => row).filter((row) => row.image === image && row.state !== "deleting");
    if (users.length === 0) await this.#expel(client, image, imageId);
    const kept = [];
    for (const { name, childCount } of info.snapshots) {
      if (childCount > 0 || users.some(({ snapshot }) => snapshot === name)) kept.push(name);
      else await step("storage.reap.snapshot", () => client.removeSnapshot(image, imageId, name));
    }
    if (users.length === 0 && kept.length === 0) {
      await step("storage.reap.image", () => (imageId === null ? client.remove(image) : client.trashRemove(imageId)));
      return info.parent?.image ?? null;
    }
    if (imageId !== null || users.some(({ snapshot, state }) => snapshot === null || state === "making")) return null;
    if (info.sizeBytes > 0) await step("storage.reap.contents", () => client.resize(image, 0));
    if (users.length === 0) await step("storage.reap.trash", () => client.trashMove(image));
    return null;
  }

  #isOther({ instance }: WriterRow): boolean {
    return instance !== this.#connection.instance;
  }

  /**
   * Nobody has the image attached, but the cluster counts a client that was killed for half a minute, and waits as long for the lock that it had: it is
   * told that the client is gone.
   */
  async #expel(client: RbdClient, image: string, imageId: string | null): Promise<void> {
    const watchers = await client.watchers(image, imageId);
    if (watchers.length === 0) return;
    // One that another server writes to is open there, or that server is shut out already.
    const writers = [...(await this.#register.list("writer")).values()];
    if (writers.some(({ row }) => row.image === image && this.#isOther(row))) return;
    const instances = [...(await this.#register.list("instance")).values()].map(({ row }) => row.address);
    const gone = watchers.filter((address) => !instances.includes(address));
    if (gone.length > 0) await client.blocklist(gone, GONE_SECONDS);
  }
}

async function locate(client: RbdClient, image: string): Promise<Located | null> {
  const info = await client.info(image);
  if (info !== null) return { info, imageId: null };
  const imageId = (await client.trash()).find(({ name }) => name === image)?.id ?? null;
  if (imageId !== null) {
    const inTrash = await client.info(image, imageId);
    return inTrash === null ? null : { info: inTrash, imageId };
  }
  // Half made or half removed: listed, and cannot be opened.
  if ((await client.images()).includes(image)) await client.remove(image);
  return null;
}
