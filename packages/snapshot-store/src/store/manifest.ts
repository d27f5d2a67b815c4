import { promisify } from "node:util";
import { zstdCompress, zstdDecompress } from "node:zlib";
import { encodeHeader, HEADER_BYTES_MAX, parseHeader, type SnapshotHeader } from "../header.ts";
import { ImageDigest } from "../image-digest.ts";
import type { OrganizationKey } from "./organization-keys.ts";

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
const VERSION = 1;
/** Of the object, and of the text in it. */
export const MANIFEST_BYTES_MAX = 2 ** 28;
/** What a chunk takes in the text at most: its index, name, hash and length. */
const ENTRY_BYTES_MAX = 180;
/** The most chunks that are no zeros: about 1.4 TiB of data. */
export const MANIFEST_CHUNKS_MAX = Math.floor((MANIFEST_BYTES_MAX - 2 * HEADER_BYTES_MAX) / ENTRY_BYTES_MAX);

/** All that a snapshot in the store consists of. */
export interface Manifest {
  readonly header: SnapshotHeader;
  /** Of the image (docs/snapshot-files.md), in hexadecimal. */
  readonly imageDigest: string;
  /** In order of their index. */
  readonly chunks: readonly ManifestChunk[];
}

export interface StoredChunk {
  /** Last part of its object's key. */
  readonly name: string;
  /** Of the object. */
  readonly storedBytes: number;
}

export interface ManifestChunk extends StoredChunk {
  readonly index: number;
  /** In hexadecimal. */
  readonly sha256: string;
}

/** A manifest as an object: which key reads it in clear text, the rest sealed. */
export async function encodeManifest(key: OrganizationKey, objectKey: string, manifest: Manifest): Promise<Buffer> {
  const { header, imageDigest, chunks } = manifest;
  const text = JSON.stringify({
    version: VERSION,
    header: JSON.parse(encodeHeader(header).toString()),
    imageDigest,
    chunks: chunks.map(({ index, name, sha256, storedBytes }) => [index, name, sha256, storedBytes]),
  });
  return Buffer.concat([Buffer.from(`${key.id}\n`), key.seal(objectKey, await compress(text))]);
}

/** Id of the key that reads it. */
export function manifestKeyId(bytes: Buffer): string {
  const id = bytes.subarray(0, 64).toString("latin1").split("\n")[0] ?? "";
  if (!/^[0-9a-f]{16}$/.test(id)) throw new Error("it does not begin as a manifest");
  return id;
}

/** Throws for anything but what `encodeManifest` made. What it says is believed: it is sealed with the organization's key. */
export async function decodeManifest(key: OrganizationKey, objectKey: string, bytes: Buffer): Promise<Manifest> {
  const packed = key.unseal(objectKey, bytes.subarray(key.id.length + 1));
  const text = await decompress(packed, { maxOutputLength: MANIFEST_BYTES_MAX });
  const value = JSON.parse(text.toString()) as {
    version: number;
    header: unknown;
    imageDigest: string;
    chunks: [number, string, string, number][];
  };
  if (value.version !== VERSION)
    throw new Error(`it has version ${value.version}, and this server reads version ${VERSION}`);
  const header = parseHeader(Buffer.from(JSON.stringify(value.header)));
  const chunks = value.chunks.map(([index, name, sha256, storedBytes]) => ({ index, name, sha256, storedBytes }));
  const digest = new ImageDigest(header.sizeBytes, header.chunkBytes);
  for (const { index, sha256 } of chunks) digest.add(index, Buffer.from(sha256, "hex"));
  if (digest.digest().toString("hex") !== value.imageDigest) throw new Error("its chunks are not those of its image");
  return { header, imageDigest: value.imageDigest, chunks };
}
