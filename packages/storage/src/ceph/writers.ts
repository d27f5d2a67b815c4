import { step } from "@caisson/linux";
import type { ImageId } from "../driver.ts";
import type { CephConnection } from "./ceph-connection.ts";
import { type Found, hasWriter, type Register, RowChangedError, type WriterRow } from "./register.ts";

/** Who may write to an image: one server in all, whose row in the register is made before the image is opened, and goes after it is closed. */
export class Writers {
  readonly #connection: CephConnection;
  readonly #register: Register;

  constructor(connection: CephConnection, register: Register) {
    this.#connection = connection;
    this.#register = register;
  }

  /** The opening of the pool that writes to it. */
  async of(id: ImageId): Promise<string | null> {
    return (await this.#register.find("writer", id))?.row.instance ?? null;
  }

  /** This server's own row as its writer, or null. */
  async requireNoOther(action: string, id: ImageId): Promise<Found<WriterRow> | null> {
    const found = await this.#register.find("writer", id);
    if (found !== null && found.row.instance !== this.#connection.instance) throw hasWriter(action, found.row);
    return found;
  }

  /** Makes this server the writer, in the place of the row that was found (`null`: none). */
  async claim(action: string, id: ImageId, image: string, before: Found<WriterRow> | null): Promise<Claim> {
    // Another host may read a snapshot of the same block image.
    const readers = await this.#clientsOf(image);
    const row: WriterRow = { instance: this.#connection.instance, image, addresses: before?.row.addresses ?? [] };
    try {
      const claimed = await step("storage.attach.claim", () => this.#register.replace("writer", id, before, row));
      return { id, row, claimed, readers };
    } catch (error) {
      // Another host was quicker.
      if (error instanceof RowChangedError) await this.requireNoOther(action, id);
      throw error;
    }
  }

  /** Before the image is used, when it is open. */
  async confirm(action: string, { id, row, claimed, readers }: Claim): Promise<void> {
    const opened = (await this.#clientsOf(row.image)).filter((address) => !readers.includes(address));
    const addresses = [...new Set([...row.addresses, ...opened])];
    await this.#register.replace("writer", id, claimed, { ...row, addresses });
    // A host that fences this server writes that down first and then looks who writes: one of the two sees the other.
    await this.#connection.requireNotFenced(action);
  }

  async forget(id: ImageId): Promise<void> {
    const found = await this.#register.find("writer", id);
    if (found?.row.instance === this.#connection.instance)
      await step("storage.detach.forget", () => this.#register.replace("writer", id, found, null));
  }

  /** Who has a block image open, apart from the servers themselves, which may work on it for a moment. */
  async #clientsOf(image: string): Promise<readonly string[]> {
    const watchers = await (await this.#connection.client()).watchers(image);
    const servers = [...(await this.#register.list("instance")).values()].map(({ row }) => row.address);
    return watchers.filter((address) => !servers.includes(address));
  }
}

export interface Claim {
  readonly id: ImageId;
  readonly row: WriterRow;
  readonly claimed: Found<WriterRow> | null;
  /** Addresses of the clients that had the block image open before. */
  readonly readers: readonly string[];
}
