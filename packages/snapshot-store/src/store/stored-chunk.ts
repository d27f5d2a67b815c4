import { randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";
import { chunkLength, decodeChunk, type EncodedChunk, encodeChunk } from "../chunk.ts";
import type { SnapshotHeader } from "../header.ts";
import type { ManifestChunk } from "./manifest.ts";
import type { OrganizationKey } from "./organization-keys.ts";
import { SEAL_BYTES } from "./sealed-bytes.ts";

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

/**
 * A name for a chunk that is not in the store: its id, and something that no other try has. So a name that was deleted never comes back, and a sweep that is late deletes nothing that somebody counts on.
 */
export function newChunkName(id: string): string {
  return `${id}-${randomBytes(4).toString("hex")}`;
}

export function chunkIdOf(name: string): string {
  return name.slice(0, name.lastIndexOf("-"));
}

/** Compresses and seals a chunk, under the name of its object. */
export async function packChunk(key: OrganizationKey, name: string, bytes: Uint8Array): Promise<Buffer> {
  const { isCompressed, payload } = await encodeChunk(bytes);
  return key.seal(name, Buffer.concat([Buffer.of(isCompressed ? 1 : 0), payload]));
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
