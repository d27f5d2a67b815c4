import type { Store } from "../store.ts";
import { backupSqlite } from "./backup.ts";
import { Connection, type FaultPoint } from "./connection.ts";
import { createDiskStore } from "./disks.ts";
import { createEventStore } from "./events.ts";
import { createJoiningStore } from "./joining.ts";
import { LogSync } from "./log-sync.ts";
import { createNodeStore } from "./nodes.ts";
import { createOrganizationStore } from "./organizations.ts";
import { createSandboxStore } from "./sandboxes.ts";
import { createSnapshotStoreRows } from "./snapshot-store.ts";
import { createSshKeyStore } from "./ssh-keys.ts";

export interface SqliteStoreOptions {
  readonly faultPoint?: FaultPoint;
  /** As of `LogSync`. */
  readonly commitsPerMove?: number;
  /** As of `LogSync`. */
  readonly onMoveFailure?: (error: unknown) => void;
}

/** The embedded store: one SQLite file at `path`, made and migrated when needed. One process at a time owns it. */
export function openSqliteStore(
  path: string,
  { faultPoint, commitsPerMove, onMoveFailure }: SqliteStoreOptions = {},
): Store {
  const connection = new Connection(path, faultPoint);
  connection.deferSync();
  const log = new LogSync(path, {
    commits: () => connection.commits,
    logged: () => connection.logged,
    commitsPerMove,
    onMoveFailure,
  });
  return {
    organizations: log.durable(createOrganizationStore(connection)),
    nodes: log.durable(createNodeStore(connection)),
    joining: log.durable(createJoiningStore(connection)),
    disks: log.durable(createDiskStore(connection)),
    sandboxes: log.durable(createSandboxStore(connection)),
    sshKeys: log.durable(createSshKeyStore(connection)),
    snapshotStore: log.durable(createSnapshotStoreRows(connection)),
    events: log.durable(createEventStore(connection)),
    leadership: null,
    backup: (targetPath) => backupSqlite(path, targetPath),
    async close() {
      await log[Symbol.asyncDispose]();
      connection[Symbol.dispose]();
    },
  };
}
