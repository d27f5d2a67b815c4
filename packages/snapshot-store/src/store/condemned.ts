import { promisify } from "node:util";
import { zstdCompress, zstdDecompress } from "node:zlib";
import type { ObjectStore } from "@caisson/objects";

const BYTES_MAX = 2 ** 28;
/** What one list may have: some tens of megabytes. */
export const CONDEMNED_MAX = 200_000;
const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** The chunks of an organization that no snapshot had when a sweep looked: uploads that begin later count on none of them, and they are deleted when those that had begun before are over. */
export class Condemned {
  readonly keys: ReadonlySet<string>;
  /** When the list was written, by the clock of the sweep: uploads that began before may count on what stands in it. */
  readonly atMs: number;

  constructor(keys: ReadonlySet<string>, atMs: number) {
    this.keys = keys;
    this.atMs = atMs;
  }

  /** Null: there is one, and it is damaged, so that any chunk may stand in it. */
  static async read(objects: ObjectStore, organizationId: string, signal?: AbortSignal): Promise<Condemned | null> {
    const packed = await objects.get(keyOf(organizationId), BYTES_MAX, signal);
    if (packed === null) return new Condemned(new Set(), 0);
    try {
      const text = (await decompress(packed, { maxOutputLength: BYTES_MAX })).toString();
      const { keys, atMs } = JSON.parse(text) as { keys: string[]; atMs: number };
      return Array.isArray(keys) && Number.isFinite(atMs) ? new Condemned(new Set(keys), atMs) : null;
    } catch {
      return null;
    }
  }

  async write(objects: ObjectStore, organizationId: string, signal?: AbortSignal): Promise<void> {
    const packed = await compress(JSON.stringify({ keys: [...this.keys], atMs: this.atMs }));
    await objects.put(keyOf(organizationId), packed, signal);
  }
}

function keyOf(organizationId: string): string {
  return `condemned/${organizationId}`;
}
