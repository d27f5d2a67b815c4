import { CaissonError, isSlug, type Labels, requireLabels } from "@caisson/model";
import { invalidFile } from "./invalid-file.ts";

/** The most that a header may have, as JSON in UTF-8. */
export const HEADER_BYTES_MAX = 64 * 1024;
const SIZE_BYTES_MAX = 2 ** 50;
const CHUNK_BYTES_MIN = 2 ** 16;
const CHUNK_BYTES_MAX = 2 ** 22;
const TEXT_MAX = 256;

/** What is known of a snapshot beside its bytes: all that another installation needs to make the same one. */
export interface SnapshotHeader {
  /** Size of the image. */
  readonly sizeBytes: number;
  /** Size of its chunks: a power of two from 64 KiB to 4 MiB. */
  readonly chunkBytes: number;
  /** About how many bytes of the image are no zeros, so that a reader can make room first; null: not known. No promise. */
  readonly dataBytes: number | null;
  readonly fileSystem: FileSystemIdentity;
  readonly slug: string;
  readonly labels: Labels;
  readonly isBootable: boolean;
  /** How the volume stood still when the snapshot was taken: `clean`, it was not in use; `frozen`, its file system was frozen. */
  readonly consistency: "clean" | "frozen";
  /** ISO 8601, UTC. */
  readonly createdAt: string;
  readonly origin: SnapshotOrigin;
  /** Digest of the image that the chunks are a difference to, in hexadecimal; null: they are the whole. */
  readonly parent: string | null;
}

export interface FileSystemIdentity {
  readonly type: "ext4";
  /** 32 hexadecimal digits. */
  readonly uuid: string;
  readonly sizeBytes: number;
}

/** Where it came from, for people: nothing is looked up by it. */
export interface SnapshotOrigin {
  readonly snapshotId: string;
  readonly region: string;
  readonly volume: string | null;
  readonly baseSnapshot: string | null;
}

export function encodeHeader(header: SnapshotHeader): Buffer {
  return Buffer.from(JSON.stringify(header));
}

/** Reads a header that may be hostile. Unknown members are ignored. Throws `INVALID_SNAPSHOT_FILE`. */
export function parseHeader(bytes: Uint8Array): SnapshotHeader {
  const header = requireObject("the header", parseJson(bytes));
  const chunkBytes = requireInteger(header, "chunkBytes", CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
  if ((chunkBytes & (chunkBytes - 1)) !== 0) throw invalidFile(`"chunkBytes" of its header is no power of two`);
  const fileSystem = requireObject(`"fileSystem" of its header`, header.fileSystem);
  const origin = requireObject(`"origin" of its header`, header.origin);
  const sizeBytes = requireInteger(header, "sizeBytes", 1, SIZE_BYTES_MAX);
  return {
    sizeBytes,
    chunkBytes,
    dataBytes: header.dataBytes === null ? null : requireInteger(header, "dataBytes", 0, SIZE_BYTES_MAX),
    fileSystem: {
      type: requireOneOf(fileSystem, "type", ["ext4"]),
      uuid: requireText(fileSystem, "uuid", /^[0-9a-f]{32}$/),
      sizeBytes: requireInteger(fileSystem, "sizeBytes", 1, sizeBytes),
    },
    slug: requireText(header, "slug", { test: isSlug }),
    labels: parseLabels(header.labels),
    isBootable: requireOneOf(header, "isBootable", [true, false]),
    consistency: requireOneOf(header, "consistency", ["clean", "frozen"]),
    createdAt: requireText(header, "createdAt", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/),
    origin: {
      snapshotId: requireText(origin, "snapshotId"),
      region: requireText(origin, "region"),
      volume: origin.volume === null ? null : requireText(origin, "volume"),
      baseSnapshot: origin.baseSnapshot === null ? null : requireText(origin, "baseSnapshot"),
    },
    parent: header.parent === null ? null : requireText(header, "parent", /^[0-9a-f]{64}$/),
  };
}

type Fields = Readonly<Record<string, unknown>>;

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw invalidFile("its header is no JSON", { cause });
  }
}

function requireObject(what: string, value: unknown): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw invalidFile(`${what} is no object`);
}

function requireInteger(fields: Fields, name: string, least: number, most: number): number {
  const value = fields[name];
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= least && value <= most) return value;
  throw invalidFile(`"${name}" of its header is no whole number from ${least} to ${most}`);
}

function requireText(fields: Fields, name: string, rule: { test(text: string): boolean } = /^/): string {
  const value = fields[name];
  if (typeof value === "string" && value.length <= TEXT_MAX && rule.test(value)) return value;
  throw invalidFile(`"${name}" of its header is not what it must be`);
}

function requireOneOf<const T>(fields: Fields, name: string, values: readonly T[]): T {
  const found = values.find((value) => value === fields[name]);
  if (found !== undefined) return found;
  throw invalidFile(`"${name}" of its header is none of ${values.join(", ")}`);
}

function parseLabels(value: unknown): Labels {
  try {
    return requireLabels(value);
  } catch (cause) {
    if (cause instanceof CaissonError) throw invalidFile(`"labels" of its header: ${cause.message}`, { cause });
    throw cause;
  }
}
