import { CaissonError } from "@caisson/model";
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

/** Written before the image is opened for writing, and again when it is known who has it open. */
export interface WriterRow {
  readonly instance: string;
  readonly image: string;
  /** Of the clients that opened the image then and are no server's own connection: the writer is one, a host that reads a snapshot of the same block image from then on may be another. Those of the row that it replaced stay. */
  readonly addresses: readonly string[];
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

  /** Replaces what was found (`null`: nothing). Throws `RowChangedError` where another host has changed it meanwhile; what is to go may be gone already. */
  async replace<Kind extends keyof Rows>(
    kind: Kind,
    key: string,
    found: Found<Rows[Kind]> | null,
    row: Rows[Kind] | null,
  ): Promise<Found<Rows[Kind]> | null> {
    const text = row === null ? null : JSON.stringify(row);
    if (text === found?.text) return found;
    const client = await this.#client();
    const isReplaced = await client.replaceRow(`${kind}/${key}`, found?.text ?? null, text);
    if (!isReplaced && (text !== null || (await client.row(`${kind}/${key}`)) !== null))
      throw new RowChangedError(kind, key);
    return row === null || text === null ? null : { row, text };
  }
}

/** Two hosts changed one row at the same time, and the other was first. */
export class RowChangedError extends CaissonError {
  constructor(kind: string, key: string) {
    const message = `Cannot change the ${kind} ${key} in the register of the Ceph pool: another host changed it at the same time. Try again`;
    super("INTERNAL_ERROR", message);
  }
}

export function hasWriter(action: string, { instance, addresses }: WriterRow): CaissonError {
  const client = addresses.join(" ") || "starting";
  const message = `Cannot ${action}: another node (${instance}, ${client}) has it attached read-write. Detach it there; if that node is lost, it must be fenced first`;
  return new CaissonError("VOLUME_IN_USE", message);
}

/** Visible to callers of the driver. */
export function isThere(row: ImageRow): boolean {
  return row.state === "ready" || row.state === "sealed";
}
