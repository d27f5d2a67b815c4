import { join } from "node:path";
import { KeyedLock, PersistentWork } from "@caisson/linux";
import type { Labels } from "@caisson/model";
import { OciRuntime, type OciRuntimeOptions } from "@caisson/runtime";
import { HostNode } from "./host-node.ts";
import type { Node, TakeNodeEvent } from "./node.ts";
import type { NodeLogger } from "./node-logger.ts";
import type { BaseImageSource } from "./pools/base-image-import.ts";
import { openPool } from "./pools/open-pool.ts";
import type { ReplicatedPoolSettings } from "./pools/open-replicated-pool.ts";
import type { Pool } from "./pools/pool.ts";

export interface NodeOptions {
  /** Holds the pools and what the runtime makes: `regions/` and `run/`. */
  readonly directory: string;
  /** Each gets a pool. */
  readonly regions: readonly string[];
  /** For people, who see them with the node. */
  readonly labels: Labels;
  readonly baseImage: BaseImageSource;
  /** Of each region. Null: as the storage chooses. */
  readonly pool: {
    readonly sizeBytes: number | null;
    readonly headroomBytes: number | null;
    /** Further disks, on which each region has a part of its own. */
    readonly disks: readonly { readonly directory: string; readonly sizeBytes: number | null }[];
    /** Where replicated volumes and snapshots lie. Null: there can be none. */
    readonly replicated: ReplicatedPoolSettings | null;
  };
  /** Whether processors are kept awake while volumes are written to with many syncs. */
  readonly isAwakeForSyncs: boolean;
  readonly scratch: { readonly sizeBytes: number; readonly preparedCount: number };
  readonly runtime: Pick<OciRuntimeOptions, "network" | "startTimeoutMs" | "stopGraceMs" | "warm" | "diskLimits">;
  readonly logger: NodeLogger;
  /** Takes what happens on the node, from the opening on. */
  readonly takeEvent: TakeNodeEvent;
}

/** A node in this process. Closing it ends what runs on it; volumes and snapshots stay. */
export interface OpenNode extends Node, AsyncDisposable {}

/**
 * Opens the node of this host: the pool of each region with its base image, and the runtime. What an earlier run has left of the node's own is
 * removed; the kernel has dropped that run's processes, mounts and devices already. When a part cannot be opened, those before it are closed.
 */
export async function openNode(options: NodeOptions): Promise<OpenNode> {
  const { directory, logger, takeEvent } = options;
  await using undo = new AsyncDisposableStack();
  const locks = new KeyedLock();
  const persistent = new PersistentWork(logger, () => {
    takeEvent({ kind: "background-error", work: "retry" }).catch((error: unknown) =>
      logger.error({ err: error }, "cannot tell of a failure in the background"),
    );
  });
  const pools = new Map<string, Pool>();
  for (const region of options.regions)
    pools.set(region, await openPool(region, options, { locks, persistent, logger, takeEvent }, undo));
  const runtime = await OciRuntime.open({ ...options.runtime, runDirectory: join(directory, "run"), logger });
  undo.defer(() => runtime.close());
  return new HostNode({ pools, labels: options.labels, runtime, persistent, logger, takeEvent }, undo.move());
}
