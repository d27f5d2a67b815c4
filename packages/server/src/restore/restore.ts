import { mkdir, open, rename } from "node:fs/promises";
import { join } from "node:path";
import { type RestoredDisk, type RestoredRows, settleRestored } from "@caisson/database";
import { step, syncDirectory } from "@caisson/linux";
import { randomCharacters } from "@caisson/model";
import type { SnapshotStore } from "@caisson/snapshot-store";
import { SETTINGS } from "../app/backups/backup-files.ts";
import { parseNodeAddress } from "../app/nodes/node-address.ts";
import { RESTORED_FILE, restoredText } from "../app/restored/restored-disks.ts";
import { openStoredObjects } from "../snapshot-store/open-snapshot-store.ts";
import type { SnapshotStoreConfig } from "../snapshot-store/snapshot-store-config.ts";
import { claimStore, openForReading } from "./claim-store.ts";
import { type FetchedBackup, fetchBackup } from "./fetch-backup.ts";
import { RestoreTarget } from "./restore-target.ts";
import { restoredSettings, type StoreAddressTable } from "./restored-settings.ts";

export interface RestoreOptions {
  readonly store: SnapshotStoreConfig;
  /** The same, as settings say it. */
  readonly address: StoreAddressTable;
  readonly key: Buffer;
  /** Null: the newest that is whole. */
  readonly backupId: string | null;
  readonly dataDirectory: string;
  /** Whether nodes on other machines are gone too, and all that they had is this machine's. */
  readonly areNodesLost: boolean;
  /** Whether the first start also fetches snapshots that nobody uses. */
  readonly isFetched: boolean;
}

/** What came back, what did not, and as of when. */
export interface RestoreReport extends RestoredRows {
  readonly backupId: string;
  readonly at: string;
  /** Of the program that made it. */
  readonly version: string;
  readonly rows: Readonly<Record<string, number>>;
  readonly skipped: FetchedBackup["skipped"];
  /** Whether the settings name the store at another place than before; the former ones are beside them. */
  readonly areSettingsChanged: boolean;
  /** Whether the rows were in a PostgreSQL database; here they are in SQLite. */
  readonly hadDatabase: boolean;
}

/**
 * Makes a data directory of a backup, on a machine that has nothing but the store's address and the installation's key.
 *
 * Intent: `restore.json` in the empty directory, with which no server starts there. Then the rows come from the store, each chunk verified, are compared with what the backup says, and settled for this machine; then the key, the files and the
 * settings. The store is claimed next, so that the installation that was lost writes there no more should it come back: late, because a restore that fails before has changed nothing in the store. Commit: the removal of the intent. Whatever
 * cuts it off, the same command begins again; with the claim nothing else is needed, since it may be repeated.
 */
export async function restore(options: RestoreOptions, signal: AbortSignal): Promise<RestoreReport> {
  const { store, address, key, dataDirectory } = options;
  await using objects = await openStoredObjects(store);
  const intent = { from: store.url, backup: options.backupId };
  await using target = await RestoreTarget.open(dataDirectory, intent);
  const { report, rowsPath, fetched } = await restoreRows(openForReading(objects, key), target, options, signal);
  await target.write("keys/installation.key", `caisson-key-1:${key.toString("hex")}\n`, 0o600);
  for (const { path, mode, bytes } of fetched.manifest.files)
    if (path !== SETTINGS) await target.write(path, bytes, mode);
  const { text, formerText, hadDatabase } = restoredSettings(fetched.manifest.files, address);
  if (formerText !== null) await target.write(`${SETTINGS}.former`, formerText, 0o600);
  await target.write(SETTINGS, text, 0o600);
  await target.write(RESTORED_FILE, restoredText(report.backupId, ...toBringBack(report.disks, options)), 0o600);
  await step("restore.claim", () => claimStore({ objects, key, rowsPath, dataDirectory: target.directory }, signal));
  await step("restore.rows", () => rename(rowsPath, join(target.directory, "database", "caisson.db")));
  await syncDirectory(join(target.directory, "database"));
  await target.commit();
  return { ...report, areSettingsChanged: formerText !== null, hadDatabase };
}

export interface SettledRows {
  readonly report: Omit<RestoreReport, "areSettingsChanged" | "hadDatabase">;
  /** Where the rows lie, on stable storage. */
  readonly rowsPath: string;
  readonly fetched: FetchedBackup;
}

/** The rows of a backup, made true for this machine, in a file that no server uses yet. It writes nothing into the store. */
export async function restoreRows(
  snapshotStore: SnapshotStore,
  target: RestoreTarget,
  { backupId, areNodesLost }: Pick<RestoreOptions, "backupId" | "areNodesLost">,
  signal: AbortSignal,
): Promise<SettledRows> {
  const directory = join(target.directory, "database");
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const rowsPath = join(directory, "restoring.db");
  const fetched = await fetchBackup(snapshotStore, backupId, rowsPath, signal);
  const [stored, damaged] = [new Set<string>(), new Set<string>()];
  for await (const { organizationId, id, isWhole } of snapshotStore.survey(signal)) {
    stored.add(`${organizationId}/${id}`);
    if (!isWhole) damaged.add(`${organizationId}/${id}`);
  }
  const newNodeId = areNodesLost ? `nod_${randomCharacters(20)}` : null;
  if (newNodeId !== null) await target.write("node.json", `${JSON.stringify({ id: newNodeId })}\n`, 0o644);
  const settled = await step("restore.settle", async () =>
    settleRestored(rowsPath, {
      ...{ atMs: fetched.atMs, backupId: fetched.id, stored, damaged, newNodeId },
      // One of another machine has a port.
      isLost: (node) => areNodesLost || parseNodeAddress(node.address) === null,
    }),
  );
  {
    await using file = await open(rowsPath, "r");
    await file.sync();
  }
  const { manifest, id, atMs, skipped } = fetched;
  return {
    ...{ rowsPath, fetched },
    report: {
      ...settled,
      ...{ backupId: id, at: new Date(atMs).toISOString(), skipped },
      ...{ version: manifest.version, rows: manifest.rows },
    },
  };
}

/** What the first start makes and fetches: volumes with the snapshot of each, and snapshots. */
function toBringBack(
  disks: readonly RestoredDisk[],
  { isFetched }: RestoreOptions,
): [volumes: Readonly<Record<string, string>>, snapshots: readonly string[]] {
  const volumes = disks.flatMap(({ id, snapshot }) => (snapshot === null ? [] : [[id, snapshot.id] as const]));
  const snapshots = disks.flatMap(({ id, outcome }) => (isFetched && outcome === "stored" ? [id] : []));
  return [Object.fromEntries(volumes), snapshots];
}
