import type { Disk } from "@caisson/database";
import { SAMPLE_OWNER } from "@caisson/database/testing";
import { KeyedLock, PersistentWork } from "@caisson/linux";
import type { Node } from "@caisson/node";
import type { SnapshotStore } from "@caisson/snapshot-store";
import pino from "pino";
import type { AppContext } from "../src/app/context.ts";
import { type ConnectedNode, connectedNode, NodeDirectory } from "../src/app/nodes/node-directory.ts";
import { Metrics } from "../src/metrics/metrics.ts";

/** As much of a server as deals with a snapshot store and a node's disks, all of it fakes that write down what is asked of them. */
export class FarStore implements Disposable {
  readonly calls: string[] = [];
  readonly app: AppContext;
  readonly connected: ConnectedNode;
  readonly #metrics = new Metrics();

  /** `snapshotStore`: what the store does; `disks`: what the rows do beyond being purged. */
  constructor(
    snapshotStore: Partial<SnapshotStore>,
    disks: Partial<AppContext["store"]["disks"]>,
    moreOfNode: Partial<Node> = {},
  ) {
    const record = (call: string) => void this.calls.push(call);
    const node: Partial<Node> = {
      async deleteDisk({ id }) {
        record(`delete ${id}`);
        return "deleted";
      },
      listDisks: async () => [],
      placesOf: async () => [],
      prepare: async () => undefined,
      ...moreOfNode,
    };
    this.connected = connectedNode(SAMPLE_OWNER, node as Node, {
      ...{ placeCount: 1, placeBound: null, runId: "run_a", labels: {}, retriedWorkCount: 0 },
      regions: [{ name: "ord", baseImages: [], hasReplicated: false }],
    });
    const nodes = new NodeDirectory(SAMPLE_OWNER.nodeId);
    nodes.add(this.connected);
    const logger = pino({ level: "silent" });
    this.app = {
      config: { snapshotStore: null, volumes: { usageIntervalMs: 60_000 } },
      store: {
        disks: {
          listIds: async () => [],
          listUnsettled: async () => [],
          replicaBefore: async () => null,
          forget: async (id: string) => record(`forget ${id}`),
          ...disks,
        },
        nodes: { list: async () => [] },
        sandboxes: { listLeft: async () => [] },
      },
      snapshotStore: { find: async () => null, ...snapshotStore },
      ...{ nodes, logger, metrics: this.#metrics },
      locks: new KeyedLock(),
      persistent: new PersistentWork(logger),
    } as unknown as AppContext;
  }

  [Symbol.dispose](): void {
    this.#metrics[Symbol.dispose]();
  }
}

/** A volume, or a snapshot that is replicated. */
export function farDisk(id: string, state: Disk["state"]): Disk {
  const isSnapshot = id.startsWith("snp_");
  return {
    ...{ id, slug: id, region: "ord", organizationId: "org_a", owner: SAMPLE_OWNER, state },
    kind: isSnapshot ? "snapshot" : "volume",
    replication: { state: isSnapshot ? "replicated" : "local", attempts: 0, retryAtMs: null },
    ...{
      labels: {},
      isBootable: false,
      createdAtMs: 0,
      deletedAtMs: null,
      lostAtMs: null,
      takenFrom: [],
      parent: null,
      baseSnapshot: null,
    },
  } as unknown as Disk;
}
