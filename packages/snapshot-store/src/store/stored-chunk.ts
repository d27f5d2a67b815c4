import { randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";
import { chunkLength, decodeChunk, type EncodedChunk, encodeChunk } from "../chunk.ts";
import type { SnapshotHeader } from "../header.ts";
import type { ManifestChunk } from "./manifest.ts";
import type { OrganizationKey } from "./organization-keys.ts";
import { SEAL_BYTES } from "./sealed-bytes.ts";

/** Id, length of the object, and a random number. */
const NAME = /^([0-9a-f]{64})-(\d{1,8})-[0-9a-f]{8}$/;

/** Where the chunks of an organization are, which its key `keyId` has named. */
export function chunkDirectory(organizationId: string, keyId: string): string {
  return `chunks/${organizationId}/${keyId}/`;
}

/** The key of a chunk's object. Names are spread over folders, for directories. */
export function chunkKey(directory: string, name: string): string {
  return `${directory}${name.slice(0, 2)}/${name}`;
}

/** The name in a chunk's key. */
export function chunkName(key: string): string {
  return key.slice(key.lastIndexOf("/") + 1);
}

/** What a chunk's name says of it; null: it is no name of a chunk. */
export function parseChunkName(name: string): { readonly id: string; readonly storedBytes: number } | null {
  const [, id, length] = NAME.exec(name) ?? [];
  return id === undefined ? null : { id, storedBytes: Number(length) };
}

/**
 * A name for a chunk that is not in the store: its id, the length of its object, so that a list shows one that was cut, and something that no other try has. So a name that was deleted never comes back, and a sweep that is late
 * deletes nothing that somebody counts on.
 */
function newChunkName(id: string, storedBytes: number): string {
  return `${id}-${storedBytes}-${randomBytes(4).toString("hex")}`;
}

/** Compresses and seals a chunk, under a new name. */
export async function packChunk(
  key: OrganizationKey,
  id: string,
  bytes: Uint8Array,
): Promise<{ readonly name: string; readonly object: Buffer }> {
  const { isCompressed, payload } = await encodeChunk(bytes);
  const name = newChunkName(id, 1 + payload.length + SEAL_BYTES);
  return { name, object: key.seal(name, Buffer.concat([Buffer.of(isCompressed ? 1 : 0), payload])) };
}

/** The opposite. Throws for anything else than the chunk that the manifest tells of. */
export async function unpackChunk(
  key: OrganizationKey,
  { sizeBytes, chunkBytes }: Pick<SnapshotHeader, "sizeBytes" | "chunkBytes">,
  { index, name, sha256 }: ManifestChunk,
  object: Buffer,
): Promise<Uint8Array> {
  const packed = key.unseal(name, object);
  const payload = packed.subarray(1);
  const encoded: EncodedChunk = {
    id: Buffer.from(sha256, "hex"),
    isCompressed: packed[0] === 1,
    payload,
    crc: crc32(payload),
  };
  return decodeChunk(encoded, chunkLength(sizeBytes, chunkBytes, index), `its chunk ${index}`);
}

/** The most that a chunk's object may have. */
export function chunkObjectBytesMax(chunkBytes: number): number {
  return chunkBytes + 1 + SEAL_BYTES;
}
