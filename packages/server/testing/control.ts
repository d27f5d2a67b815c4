import assert from "node:assert/strict";
import type { Store } from "@caisson/database";
import { KeyedLock, PersistentWork } from "@caisson/linux";
import { testTimeoutMs } from "@caisson/linux/testing";
import type { SnapshotStore } from "@caisson/snapshot-store";
import pino from "pino";
import { LiveConnections } from "../src/app/access/live-connections.ts";
import { BackupWatch } from "../src/app/backups/backup-watch.ts";
import type { AppContext } from "../src/app/context.ts";
import { RoomMaker } from "../src/app/disks/room.ts";
import { InstallationAuthority } from "../src/app/nodes/installation-authority.ts";
import { NodeDirectory } from "../src/app/nodes/node-directory.ts";
import { Previews } from "../src/app/previews/previews.ts";
import { Replicator } from "../src/app/replication/replicator.ts";
import { SnapshotFetches } from "../src/app/replication/snapshot-fetches.ts";
import { RestoredDisks } from "../src/app/restored/restored-disks.ts";
import { LiveSandboxes } from "../src/app/sandboxes/live-sandboxes.ts";
import { openAgent } from "../src/app/sandboxes/sandbox-connect.ts";
import { SshAccesses } from "../src/app/ssh/ssh-accesses.ts";
import { TransferPlaces } from "../src/app/transfers/transfer-places.ts";
import { loadConfig } from "../src/config.ts";
import { CredentialsFile } from "../src/credentials.ts";
import { Metrics } from "../src/metrics/metrics.ts";
import { RemoteNodes } from "../src/reconcilers/remote-nodes.ts";
import type { Machine } from "./machine.ts";

export const WAIT_MS = testTimeoutMs(20_000);
const logger = pino({ level: "silent" });

/** A server without a node of its own, as far as it decides. */
export class Control implements AsyncDisposable {
  readonly app: AppContext;
  readonly remote: RemoteNodes;

  constructor(
    directory: string,
    store: Store,
    machines: ReadonlyMap<string, Machine>,
    snapshotStore: SnapshotStore | null = null,
  ) {
    const config = loadConfig({ dataDirectory: directory }, {});
    const nodes = new NodeDirectory(null);
    const metrics = new Metrics();
    this.app = {
      config,
      store,
      nodes,
      authority: new InstallationAuthority(store),
      locks: new KeyedLock(),
      room: new RoomMaker(),
      live: new LiveSandboxes(),
      connections: new LiveConnections(),
      previews: new Previews(config.expose.domain, config.expose, (sandbox) => openAgent({ nodes }, sandbox)),
      ssh: new SshAccesses(0),
      transfers: new TransferPlaces(config.transfers),
      snapshotStore,
      replicator: new Replicator(),
      backups: new BackupWatch(directory),
      restored: RestoredDisks.none(directory),
      fetches: new SnapshotFetches(),
      credentials: new CredentialsFile(store, directory),
      persistent: new PersistentWork(logger),
      metrics,
      logger,
    };
    this.remote = new RemoteNodes(this.app, (options) => {
      const machine = machines.get(options.nodeId);
      assert.ok(machine);
      return machine.open(options);
    });
  }

  /** Ends it as a crash does: nothing more of it happens. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const { timer } of this.app.live.all()) if (timer !== null) clearTimeout(timer);
    await this.remote[Symbol.asyncDispose]();
    await this.app.persistent.close();
    this.app.metrics[Symbol.dispose]();
  }
}

export async function eventually(what: string, isSo: () => Promise<boolean> | boolean): Promise<void> {
  const untilMs = performance.now() + WAIT_MS;
  while (!(await isSo())) {
    if (performance.now() > untilMs) throw new Error(`not within ${WAIT_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
