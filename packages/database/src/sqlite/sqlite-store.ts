import type { Store } from "../store.ts";
import { backupSqlite } from "./backup.ts";
import { Connection, type FaultPoint } from "./connection.ts";
import { createDiskStore } from "./disks.ts";
import { createEventStore } from "./events.ts";
import { createJoiningStore } from "./joining.ts";
import { createNodeStore } from "./nodes.ts";
import { createOrganizationStore } from "./organizations.ts";
import { createSandboxStore } from "./sandboxes.ts";
import { createSnapshotStoreRows } from "./snapshot-store.ts";
import { createSshKeyStore } from "./ssh-keys.ts";

/** The embedded store: one SQLite file at `path`, made and migrated when needed. One process at a time owns it. */
export function openSqliteStore(path: string, options: { readonly faultPoint?: FaultPoint } = {}): Store {
  const connection = new Connection(path, options.faultPoint);
  return {
    organizations: createOrganizationStore(connection),
    nodes: createNodeStore(connection),
    joining: createJoiningStore(connection),
    disks: createDiskStore(connection),
    sandboxes: createSandboxStore(connection),
    sshKeys: createSshKeyStore(connection),
    snapshotStore: createSnapshotStoreRows(connection),
    events: createEventStore(connection),
    leadership: null,
    backup: (targetPath) => backupSqlite(path, targetPath),
    async close() {
      connection[Symbol.dispose]();
    },
  };
}
