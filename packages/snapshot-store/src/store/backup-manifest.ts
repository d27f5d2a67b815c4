import { promisify } from "node:util";
import { zstdCompress, zstdDecompress } from "node:zlib";
import { CaissonError } from "@caisson/model";
import { CHUNK_BYTES } from "../chunk.ts";
import { ImageDigest } from "../image-digest.ts";
import type { ManifestChunk } from "./manifest.ts";
import type { OrganizationKey } from "./organization-keys.ts";

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
const VERSION = 1;
/** Of the object, and of the text in it. */
export const BACKUP_MANIFEST_BYTES_MAX = 2 ** 28;
/** Manual or automatic, and when: what a list shows of a backup without reading it. */
const ID = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-(auto-)?[0-9a-f]{8}$/;

/** What a backup has beside the database. */
export interface BackupContent {
  /** Of the program that made it. */
  readonly version: string;
  /** Of the database's tables, as SQLite counts them. */
  readonly schemaVersion: number;
  /** Rows by table. */
  readonly rows: Readonly<Record<string, number>>;
  /** What it counts on in the store: the snapshots that were replicated. */
  readonly snapshots: readonly { readonly organizationId: string; readonly id: string }[];
  /** Files of the data directory, by their path in it. */
  readonly files: readonly BackupFile[];
}

export interface BackupFile {
  readonly path: string;
  readonly mode: number;
  readonly bytes: Buffer;
}

/** All that a backup in the store consists of. */
export interface BackupManifest extends BackupContent {
  readonly sizeBytes: number;
  /** Of the database's file, as of an image (docs/snapshot-files.md), in hexadecimal. */
  readonly imageDigest: string;
  /** In order of their index. */
  readonly chunks: readonly ManifestChunk[];
}

export function parseBackupId(id: string): { readonly atMs: number; readonly isAutomatic: boolean } | null {
  const [, year, month, day, hour, minute, second, automatic] = ID.exec(id) ?? [];
  if (year === undefined) return null;
  const atMs = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  return Number.isNaN(atMs) ? null : { atMs, isAutomatic: automatic !== undefined };
}

/** A backup as an object, in the form of a snapshot's manifest: which key reads it in clear text, the rest sealed. */
export async function encodeBackup(key: OrganizationKey, objectKey: string, manifest: BackupManifest): Promise<Buffer> {
  const { files, chunks, ...rest } = manifest;
  const text = JSON.stringify({
    format: VERSION,
    ...rest,
    files: files.map(({ path, mode, bytes }) => [path, mode, bytes.toString("base64")]),
    chunks: chunks.map(({ index, name, sha256, storedBytes }) => [index, name, sha256, storedBytes]),
  });
  return Buffer.concat([Buffer.from(`${key.id}\n`), key.seal(objectKey, await compress(text))]);
}

/** Throws for anything but what `encodeBackup` made; `NOT_SUPPORTED` for what a newer program made. What it says is believed: it is sealed with a key of the installation. */
export async function decodeBackup(key: OrganizationKey, objectKey: string, bytes: Buffer): Promise<BackupManifest> {
  const packed = key.unseal(objectKey, bytes.subarray(key.id.length + 1));
  const text = await decompress(packed, { maxOutputLength: BACKUP_MANIFEST_BYTES_MAX });
  const value = JSON.parse(text.toString()) as Omit<BackupManifest, "files" | "chunks"> & {
    readonly format: number;
    readonly files: readonly [string, number, string][];
    readonly chunks: readonly [number, string, string, number][];
  };
  const { format, files, chunks, ...rest } = value;
  if (format !== VERSION)
    throw new CaissonError(
      "NOT_SUPPORTED",
      `Cannot read ${objectKey}: it has version ${format}, and this program reads version ${VERSION}. Use the program that made it, or name another backup`,
    );
  const digest = new ImageDigest(rest.sizeBytes, CHUNK_BYTES);
  for (const [index, , sha256] of chunks) digest.add(index, Buffer.from(sha256, "hex"));
  if (digest.digest().toString("hex") !== rest.imageDigest) throw new Error("its chunks are not those of its database");
  return {
    ...rest,
    files: files.map(([path, mode, base64]) => ({ path, mode, bytes: Buffer.from(base64, "base64") })),
    chunks: chunks.map(([index, name, sha256, storedBytes]) => ({ index, name, sha256, storedBytes })),
  };
}
