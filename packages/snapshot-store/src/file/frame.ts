import { invalidFile } from "../invalid-file.ts";

/** docs/snapshot-files.md describes the format for other readers; both change together. */
export const SNAPSHOT_FILE_VERSION = 1;
/** As of PNG: what takes eight bits for seven, or changes line ends, changes this. */
const MAGIC = Buffer.from("\x89CAISSON\r\n\x1a\n", "latin1");
/** The magic bytes, then the version as 32 bits. */
export const PREAMBLE_BYTES = MAGIC.length + 4;
export const HEAD_BYTES = 56;

export type FrameKind = "header" | "chunk" | "end";
const KIND_BYTES: Readonly<Record<FrameKind, number>> = { header: 0x48, chunk: 0x43, end: 0x45 };
const PLAIN = 0;
const ZSTD = 1;

/** What stands before the payload of a frame. */
export interface FrameHead {
  readonly kind: FrameKind;
  readonly isCompressed: boolean;
  /** Of the payload. */
  readonly length: number;
  /** Of a chunk; 0 otherwise. */
  readonly index: number;
  /** CRC-32 of the payload. */
  readonly crc: number;
  /** SHA-256 of the payload, decompressed. */
  readonly id: Buffer;
}

/** What every snapshot file begins with. */
export function encodePreamble(): Buffer {
  const preamble = Buffer.alloc(PREAMBLE_BYTES);
  MAGIC.copy(preamble);
  preamble.writeUInt32LE(SNAPSHOT_FILE_VERSION, MAGIC.length);
  return preamble;
}

/** Whether bytes begin as a snapshot file does, of whatever version. */
export function isSnapshotFile(bytes: Uint8Array): boolean {
  return bytes.length >= MAGIC.length && MAGIC.equals(bytes.subarray(0, MAGIC.length));
}

export function requirePreamble(preamble: Buffer): void {
  if (!isSnapshotFile(preamble)) {
    throw invalidFile("it does not begin as one", {
      advice: "Give a file that `caisson snapshots export` wrote; for an ext4 image say that it is raw",
    });
  }
  const version = preamble.readUInt32LE(MAGIC.length);
  if (version === SNAPSHOT_FILE_VERSION) return;
  throw invalidFile(`it has version ${version} of the format, and this server reads version ${SNAPSHOT_FILE_VERSION}`, {
    advice: "Use a server that is as new as the one that wrote it",
  });
}

export function encodeHead({ kind, isCompressed, length, index, crc, id }: FrameHead): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt8(KIND_BYTES[kind], 0);
  head.writeUInt8(isCompressed ? ZSTD : PLAIN, 1);
  head.writeUInt32LE(length, 4);
  head.writeBigUInt64LE(BigInt(index), 8);
  head.writeUInt32LE(crc, 16);
  id.copy(head, 24);
  return head;
}

/** Reads a head; `what` names its frame in errors. Only what a writer writes is taken. */
export function decodeHead(head: Buffer, what: string): FrameHead {
  const kinds = Object.keys(KIND_BYTES) as FrameKind[];
  const kind = kinds.find((one) => KIND_BYTES[one] === head.readUInt8(0));
  const encoding = head.readUInt8(1);
  const isReservedZero = head.readUInt16LE(2) === 0 && head.readUInt32LE(20) === 0;
  if (kind === undefined || encoding > ZSTD || !isReservedZero)
    throw invalidFile(`${what} is damaged (no frame begins there)`);
  if (kind !== "chunk" && (encoding !== PLAIN || head.readBigUInt64LE(8) !== 0n))
    throw invalidFile(`${what} is damaged (a ${kind} has neither compression nor an index)`);
  return {
    kind,
    isCompressed: encoding === ZSTD,
    length: head.readUInt32LE(4),
    // Too large a number is no index of any image either.
    index: Number(head.readBigUInt64LE(8)),
    crc: head.readUInt32LE(16),
    id: Buffer.from(head.subarray(24, HEAD_BYTES)),
  };
}
