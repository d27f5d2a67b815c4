import { CaissonError } from "@caisson/model";
import type { ImageId } from "../driver.ts";
import type { RbdClient } from "./rbd-client.ts";

/**
 * What the pool holds, for all hosts that use it: a row for each image, each attachment for writing, each opening of the pool, and each opening that was
 * fenced. They are values of one object of the cluster, and each is replaced only where it still is what was read.
 */
export interface ImageRow {
  /** `making` and `deleting` are intents: such an image is not there. */
  readonly state: "making" | "ready" | "sealed" | "deleting";
  readonly sizeBytes: number;
  /** The block image of the cluster that it is, or a snapshot of which it is. */
  readonly image: string;
  readonly snapshot: string | null;
  /** The host that made it: its own are settled when that host opens the pool again. */
  readonly owner: string;
  readonly isEphemeral: boolean;
  /** The block image may still have the size that it had before. */
  readonly isGrowing: boolean;
}

/** Written before the image is opened for writing, and again when the address of that client is known. */
export interface WriterRow {
  readonly instance: string;
  readonly image: string;
  readonly address: string | null;
}

export interface InstanceRow {
  readonly owner: string;
  /** Of the connection of the server itself. */
  readonly address: string;
}

interface Rows {
  readonly image: ImageRow;
  readonly writer: WriterRow;
  readonly instance: InstanceRow;
  readonly fenced: { readonly atMs: number };
}

export interface Found<T> {
  readonly row: T;
  /** As it is stored, to be compared with. */
  readonly text: string;
}

export class Register {
  readonly #client: () => Promise<RbdClient>;

  constructor(client: () => Promise<RbdClient>) {
    this.#client = client;
  }

  async find<Kind extends keyof Rows>(kind: Kind, key: string): Promise<Found<Rows[Kind]> | null> {
    const text = await (await this.#client()).row(`${kind}/${key}`);
    return text === null ? null : { row: JSON.parse(text) as Rows[Kind], text };
  }

  async list<Kind extends keyof Rows>(kind: Kind): Promise<ReadonlyMap<string, Found<Rows[Kind]>>> {
    const rows = await (await this.#client()).rows(`${kind}/`);
    return new Map(
      Object.entries(rows).map(([key, text]) => [
        key.slice(kind.length + 1),
        { row: JSON.parse(text) as Rows[Kind], text },
      ]),
    );
  }

  /** Replaces what was found (`null`: nothing). Throws where another host has changed it meanwhile. */
  async replace<Kind extends keyof Rows>(
    kind: Kind,
    key: string,
    found: Found<Rows[Kind]> | null,
    row: Rows[Kind] | null,
  ): Promise<Found<Rows[Kind]> | null> {
    const text = row === null ? null : JSON.stringify(row);
    if (text === found?.text) return found;
    if (!(await (await this.#client()).replaceRow(`${kind}/${key}`, found?.text ?? null, text)))
      throw changed(kind, key);
    return row === null || text === null ? null : { row, text };
  }
}

/** Visible to callers of the driver. */
export function isThere(row: ImageRow): boolean {
  return row.state === "ready" || row.state === "sealed";
}

function changed(kind: string, key: ImageId): CaissonError {
  const message = `Cannot change the ${kind} ${key} in the register of the Ceph pool: another host changed it at the same time. Try again`;
  return new CaissonError("INTERNAL_ERROR", message);
}
