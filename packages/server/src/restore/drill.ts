import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KeptSnapshot, RestoredDisk } from "@caisson/database";
import type { SnapshotStore, StoredSnapshot } from "@caisson/snapshot-store";
import { openStoredObjects } from "../snapshot-store/open-snapshot-store.ts";
import { openForReading } from "./claim-store.ts";
import { type RestoreOptions, restoreRows, type SettledRows } from "./restore.ts";
import { RestoreTarget } from "./restore-target.ts";

export interface DrillOptions extends Pick<RestoreOptions, "store" | "key" | "backupId" | "areNodesLost"> {
  /** How many snapshots are read; null: all. */
  readonly sampleCount: number | null;
}

/** What a rehearsal of a restore found. Times are in milliseconds. */
export interface DrillReport extends Omit<SettledRows["report"], "disks"> {
  readonly disks: readonly RestoredDisk[];
  /** Snapshots that are to be in the store, those of kept nodes among them, those of them that were read whole, and what is wrong with the others that were tried. */
  readonly snapshots: { readonly count: number; readonly fetched: number; readonly fetchedBytes: number };
  readonly damaged: readonly (Omit<KeptSnapshot, "organizationId"> & { readonly problem: string })[];
  /** How old what would come back is: the rows, and of all volumes that would the oldest. Null: no volume would. */
  readonly rpo: { readonly rowsMs: number; readonly oldestVolumeMs: number | null };
  /** How long it took to have the rows, to fetch the sample, and how long both would take with all snapshots; null: nothing was fetched to tell by. */
  readonly rto: { readonly rowsMs: number; readonly fetchMs: number; readonly allMs: number | null };
  /** Whether all that claims to be replicated came back, as far as it was looked at. */
  readonly isWhole: boolean;
}

/**
 * Rehearses a restore, from the real store into a temporary directory, which is gone afterwards. The store is only read, and stays whose it is. Each snapshot of the sample is read whole, every chunk verified against its manifest, and written nowhere:
 * images may be larger than the disk here. Those come first that volumes would be made of. One that cannot be read, for whatever reason, is told, and keeps the others from nothing.
 */
export async function drill(options: DrillOptions, signal: AbortSignal): Promise<DrillReport> {
  const { store, key, sampleCount } = options;
  await using undo = new AsyncDisposableStack();
  const objects = undo.use(await openStoredObjects(store));
  const directory = await mkdtemp(join(tmpdir(), "caisson-drill-"));
  undo.defer(() => rm(directory, { recursive: true, force: true }));
  const target = undo.use(await RestoreTarget.open(directory, { drill: store.url }));
  const snapshotStore = openForReading(objects, key);
  const startedMs = performance.now();
  const { report, fetched } = await restoreRows(snapshotStore, target, options, signal);
  const rowsMs = performance.now() - startedMs;

  const all = inOrder(report);
  const sample = all.slice(0, sampleCount ?? all.length);
  const damaged: DrillReport["damaged"][number][] = [];
  let [fetchedCount, fetchedBytes] = [0, 0];
  const fetchStartedMs = performance.now();
  for (const { id, organizationId, slug, organization } of sample) {
    try {
      fetchedBytes += await readSnapshot(snapshotStore, { organizationId, id }, signal);
      fetchedCount += 1;
    } catch (error) {
      signal.throwIfAborted();
      damaged.push({ id, slug, organization, problem: error instanceof Error ? error.message : String(error) });
    }
  }
  const fetchMs = performance.now() - fetchStartedMs;
  const times = report.disks.flatMap(({ outcome, atMs }) =>
    outcome === "from-snapshot" && atMs !== null ? [atMs] : [],
  );
  const nowMs = Date.now();
  return {
    ...report,
    snapshots: { count: all.length, fetched: fetchedCount, fetchedBytes },
    damaged,
    rpo: { rowsMs: nowMs - fetched.atMs, oldestVolumeMs: times.length === 0 ? null : nowMs - Math.min(...times) },
    rto: {
      ...{ rowsMs, fetchMs },
      allMs: all.length === 0 ? rowsMs : fetchedCount === 0 ? null : rowsMs + (fetchMs / fetchedCount) * all.length,
    },
    isWhole:
      damaged.length === 0 &&
      report.skipped.length === 0 &&
      !report.disks.some(({ outcome }) => outcome === "purged" || outcome === "damaged"),
  };
}

/** The snapshots that are to be in the store: first those that volumes are made of. */
function inOrder({ disks, keptSnapshots }: SettledRows["report"]): readonly KeptSnapshot[] {
  const needed = new Set(disks.flatMap(({ snapshot }) => snapshot?.id ?? []));
  const snapshots = [...disks.filter(({ outcome }) => outcome === "stored" || outcome === "damaged"), ...keptSnapshots];
  const rankOf = ({ id }: KeptSnapshot) => (needed.has(id) ? 0 : 1 + Math.random());
  const ranked = snapshots.map((snapshot) => ({ snapshot, rank: rankOf(snapshot) }));
  return ranked.sort((one, other) => one.rank - other.rank).map(({ snapshot }) => snapshot);
}

/** Reads all of a snapshot, each chunk verified. Returns how many bytes of it were no zeros. */
async function readSnapshot(
  snapshotStore: SnapshotStore,
  snapshot: StoredSnapshot,
  signal: AbortSignal,
): Promise<number> {
  let bytesRead = 0;
  const { chunks } = await snapshotStore.open(snapshot, signal);
  for await (const { bytes } of chunks()) bytesRead += bytes.length;
  return bytesRead;
}
