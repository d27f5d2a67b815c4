import { closeSync, constants, fdatasyncSync, openSync, writeSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";

const MIB = 2 ** 20;
const BLOCK_BYTES = 4096;
const OVERWRITTEN_BYTES = 8 * MIB;
const SYNCS_MS = 400;
const WRITE_MS = 200;
/** A synced piece: small enough that a slow disk is done in time, large enough that the sync hardly counts. */
const PIECE_BYTES = 8 * MIB;
const WRITE_MAX_BYTES = 128 * MIB;

/** What a thread that may block is told to write to. */
export interface SpeedOrder {
  /** Made where missing; they stay. */
  readonly overwrittenPath: string;
  readonly writtenPath: string;
}

export interface WriteSpeed {
  readonly syncsPerSecond: number;
  readonly writtenBytesPerSecond: number;
  readonly writtenBytes: number;
}

const { overwrittenPath, writtenPath } = workerData as SpeedOrder;
parentPort?.postMessage({ syncsPerSecond: countSyncs(overwrittenPath), ...write(writtenPath) } satisfies WriteSpeed);

/** Random overwrites of one block, each on stable storage before the next: as a database writes. */
function countSyncs(path: string): number {
  const file = openSync(path, constants.O_CREAT | constants.O_RDWR, 0o600);
  try {
    writeSync(file, Buffer.alloc(OVERWRITTEN_BYTES, 1), 0, OVERWRITTEN_BYTES, 0);
    fdatasyncSync(file);
    const block = Buffer.alloc(BLOCK_BYTES, 2);
    const startMs = performance.now();
    let count = 0;
    for (; performance.now() - startMs < SYNCS_MS; count += 1) {
      const position = BLOCK_BYTES * Math.floor((Math.random() * OVERWRITTEN_BYTES) / BLOCK_BYTES);
      writeSync(file, block, 0, BLOCK_BYTES, position);
      fdatasyncSync(file);
    }
    return (1000 * count) / (performance.now() - startMs);
  } finally {
    closeSync(file);
  }
}

function write(path: string): Omit<WriteSpeed, "syncsPerSecond"> {
  const file = openSync(path, constants.O_CREAT | constants.O_RDWR | constants.O_TRUNC, 0o600);
  try {
    const piece = Buffer.alloc(PIECE_BYTES, 3);
    const startMs = performance.now();
    let writtenBytes = 0;
    while (writtenBytes < WRITE_MAX_BYTES && (writtenBytes === 0 || performance.now() - startMs < WRITE_MS)) {
      writeSync(file, piece, 0, PIECE_BYTES, writtenBytes);
      fdatasyncSync(file);
      writtenBytes += PIECE_BYTES;
    }
    return { writtenBytes, writtenBytesPerSecond: (1000 * writtenBytes) / (performance.now() - startMs) };
  } finally {
    closeSync(file);
  }
}
