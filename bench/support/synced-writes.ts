import { closeSync, constants, fdatasyncSync, fsyncSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

const SECONDS = 2;
const BLOCKS = 16_384;
const MIB = 2 ** 20;

export type SyncedWorkload = "overwrite" | "overwrite-data" | "append" | "sqlite";

interface Order {
  readonly workload: SyncedWorkload;
  readonly path: string;
  readonly seconds: number;
}

/** Writes that are each on stable storage before the next, below `path`: how many each second. In a thread, because they block. */
export function countSyncedWrites(workload: SyncedWorkload, path: string, seconds = SECONDS): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const worker = new Worker(import.meta.filename, { workerData: { workload, path, seconds } satisfies Order });
  worker.once("message", resolve).once("error", reject);
  return promise;
}

if (!isMainThread) {
  const { workload, path, seconds } = workerData as Order;
  const count = workload === "sqlite" ? insertRows(path, seconds) : writeBlocks(workload, path, seconds);
  parentPort?.postMessage(count / seconds);
}

function writeBlocks(workload: Exclude<SyncedWorkload, "sqlite">, path: string, seconds: number): number {
  const isAppend = workload === "append";
  const flags = constants.O_CREAT | constants.O_RDWR | (isAppend ? constants.O_TRUNC : 0);
  const file = openSync(join(path, workload), flags, 0o600);
  if (!isAppend) {
    for (let position = 0; position < BLOCKS * 4096; position += MIB)
      writeSync(file, Buffer.alloc(MIB, 2), 0, MIB, position);
  }
  fsyncSync(file);
  const block = Buffer.alloc(4096, 1);
  const sync = workload === "overwrite-data" ? fdatasyncSync : fsyncSync;
  const count = countFor(seconds, (number) => {
    block.writeUInt32LE(number);
    writeSync(file, block, 0, block.length, (isAppend ? number : Math.floor(Math.random() * BLOCKS)) * block.length);
    sync(file);
  });
  closeSync(file);
  return count;
}

function insertRows(path: string, seconds: number): number {
  using database = new DatabaseSync(join(path, "inserts.sqlite"));
  database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
  database.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, text TEXT)");
  const insert = database.prepare("INSERT INTO t (text) VALUES (?)");
  return countFor(seconds, (number) => insert.run(`row ${number} `.repeat(10)));
}

function countFor(seconds: number, write: (number: number) => unknown): number {
  const end = performance.now() + seconds * 1000;
  let count = 0;
  for (; performance.now() < end; count += 1) write(count);
  return count;
}
