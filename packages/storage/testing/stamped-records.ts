import { constants, fdatasyncSync, fsyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { isMainThread, Worker, workerData } from "node:worker_threads";

const RECORD_BYTES = 4096;
const SLOTS = 1024;
/** Places in the shared memory. */
const ACKNOWLEDGED = 0;
const LONGEST_MS = 1;
const COUNT = 2;

interface Order {
  readonly path: string;
  readonly shared: SharedArrayBuffer;
}

/**
 * A writer that never stops: record after record, each stamped with its number and acknowledged by `fdatasync` before the next begins. In a thread of its
 * own, since a frozen file system stops it.
 */
export class StampedWriter implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #values: Float64Array;
  #failure: unknown = null;

  private constructor(worker: Worker, values: Float64Array) {
    this.#worker = worker;
    this.#values = values;
    worker.on("error", (error) => {
      this.#failure = error;
    });
  }

  /** Resolves when the first records are acknowledged. */
  static async start(path: string): Promise<StampedWriter> {
    const shared = new SharedArrayBuffer(3 * Float64Array.BYTES_PER_ELEMENT);
    const worker = new Worker(import.meta.filename, { workerData: { path, shared } satisfies Order });
    const writer = new StampedWriter(worker, new Float64Array(shared));
    await writer.progress(10);
    return writer;
  }

  /** The last record that was acknowledged. */
  get acknowledged(): number {
    return this.#values[ACKNOWLEDGED] ?? 0;
  }

  /** Records so far. */
  get count(): number {
    return this.#values[COUNT] ?? 0;
  }

  /** How long the slowest record took since the last call, in milliseconds. */
  takeLongestMs(): number {
    const longest = this.#values[LONGEST_MS] ?? 0;
    this.#values[LONGEST_MS] = 0;
    return longest;
  }

  /** Resolves after so many more records. */
  async progress(records: number): Promise<void> {
    const goal = this.count + records;
    while (this.count < goal) {
      if (this.#failure !== null) throw this.#failure;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}

/** The last record in the file. Throws unless it is whole and all before it, as far back as the file reaches, are there. */
export function readLastRecord(path: string): number {
  const bytes = readFileSync(path);
  const stampOf = (slot: number): number => {
    const record = bytes.subarray(slot * RECORD_BYTES, (slot + 1) * RECORD_BYTES);
    const stamp = record.readDoubleLE(0);
    for (let at = 0; at < RECORD_BYTES; at += 8)
      if (record.readDoubleLE(at) !== stamp) throw new Error(`${path}: the record in slot ${slot} is torn`);
    return stamp;
  };
  const stamps = Array.from({ length: SLOTS }, (_, slot) => stampOf(slot));
  const last = Math.max(...stamps);
  for (let number = Math.max(1, last - SLOTS + 1); number <= last; number += 1)
    if (stamps[number % SLOTS] !== number) throw new Error(`${path}: record ${number} is missing before ${last}`);
  return last;
}

if (!isMainThread && typeof (workerData as Order | null)?.path === "string") write(workerData as Order);

function write({ path, shared }: Order): never {
  const values = new Float64Array(shared);
  const file = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC, 0o600);
  const record = Buffer.alloc(RECORD_BYTES);
  const stamps = new Float64Array(record.buffer, record.byteOffset, RECORD_BYTES / 8);
  writeSync(file, Buffer.alloc(SLOTS * RECORD_BYTES), 0, SLOTS * RECORD_BYTES, 0);
  fsyncSync(file);
  for (let number = 1; ; number += 1) {
    stamps.fill(number);
    const startMs = performance.now();
    writeSync(file, record, 0, RECORD_BYTES, (number % SLOTS) * RECORD_BYTES);
    fdatasyncSync(file);
    const tookMs = performance.now() - startMs;
    if (tookMs > (values[LONGEST_MS] ?? 0)) values[LONGEST_MS] = tookMs;
    values[ACKNOWLEDGED] = number;
    values[COUNT] = number;
  }
}
