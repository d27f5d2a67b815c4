import type { Node } from "@caisson/node";

/** Calls that are more than a question and an answer in plain data. */
type StreamingMethod = "startSandbox" | "exportDisk" | "importDisk" | "openAgent" | "connectInside";
export type PlainMethod = Exclude<keyof Node, StreamingMethod>;

const QUICK_MS = 30_000;
/** Work on a disk waits for other work on it, and for a disk that is slow. */
const DISK_MS = 10 * 60_000;
const CHECK_MS = 60 * 60_000;

/** How long the answer to each call may take. A peer that is gone or frozen is noticed long before (`watch-peer.ts`). */
export const DEADLINES_MS = {
  describe: QUICK_MS,
  prepare: QUICK_MS,
  poolCapacity: QUICK_MS,
  ownPoolUsage: DISK_MS,
  growPool: DISK_MS,
  makeRoom: DISK_MS,
  createDisk: DISK_MS,
  sealDisk: DISK_MS,
  growDisk: CHECK_MS,
  deleteDisk: DISK_MS,
  // A large file system is checked.
  recoverDisk: CHECK_MS,
  fence: DISK_MS,
  getDisk: QUICK_MS,
  measureDisk: DISK_MS,
  tendDisk: DISK_MS,
  listDisks: DISK_MS,
  listMountedDisks: QUICK_MS,
  placesOf: QUICK_MS,
  // Mounting may check a file system first.
  startSandbox: CHECK_MS,
  stopSandbox: DISK_MS,
  listSandboxes: QUICK_MS,
  ownEnd: QUICK_MS,
  /** Until it is open; from then on, for each piece. */
  exportDisk: DISK_MS,
  /** For each piece, and for the check at the end. */
  importDisk: CHECK_MS,
  openAgent: QUICK_MS,
  connectInside: QUICK_MS,
} as const satisfies Record<keyof Node, number>;

const STREAMING: ReadonlySet<string> = new Set<StreamingMethod>([
  "startSandbox",
  "exportDisk",
  "importDisk",
  "openAgent",
  "connectInside",
]);

export function isPlainMethod(name: string): name is PlainMethod {
  return Object.hasOwn(DEADLINES_MS, name) && !STREAMING.has(name);
}
