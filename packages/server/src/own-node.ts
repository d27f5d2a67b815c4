import { hostname } from "node:os";
import { join } from "node:path";
import { openNode } from "@caisson/node";
import type { AppContext } from "./app/context.ts";
import { takeNodeEvent } from "./app/node-event.ts";
import { parseNodeAddress } from "./app/nodes/node-address.ts";
import { beginNode } from "./app/nodes/node-begin.ts";
import { type ConnectedNode, connectedNode } from "./app/nodes/node-directory.ts";
import { ReplicaRound } from "./app/replication/replica-round.ts";
import { ensureBaseImage } from "./base-image/index.ts";
import type { Config } from "./config.ts";
import { ensureNodeId } from "./node-file.ts";
import { nodeOptions } from "./node-options.ts";
import { LEASE_MS, NodeLease } from "./reconcilers/node-lease.ts";
import { purgeExpired, startNodeJobs } from "./reconcilers/periodic.ts";
import { recover } from "./reconcilers/recover.ts";

/**
 * Opens the node of this host in this process, begins its run and renews its lease. What that needs is released by `undo`. `onReplaced`: a later run of it has begun, or it was forgotten; this process
 * must end.
 */
export async function openOwnNode(
  app: Pick<AppContext, "store" | "metrics" | "live" | "logger"> & {
    readonly config: Config;
    readonly directory: string;
  },
  undo: AsyncDisposableStack,
  onReplaced: (error: Error) => void,
): Promise<ConnectedNode> {
  const { config, directory, store, logger } = app;
  const baseImageFile = await ensureBaseImage({
    cacheDirectory: join(config.cacheDirectory, "images"),
    onProgress: (progress) => logger.info({ progress }, progress.message),
  });
  const nodeId = await ensureNodeId(directory, store);
  const node = undo.use(
    await openNode({
      ...nodeOptions(config, directory, baseImageFile),
      logger,
      takeEvent: (event) => takeNodeEvent(app, nodeId, event),
    }),
  );
  const description = await node.describe();
  // A port would say that servers connect to it there.
  const given = config.node.address;
  const address = given === null ? hostname() : (parseNodeAddress(given)?.host ?? given);
  const described = { id: nodeId, address, description };
  const { isDraining, generation } = await beginNode(app, described, LEASE_MS);
  if (isDraining)
    logger.warn(
      { nodeId },
      `this node is being drained and takes no new sandboxes: end that with "caisson nodes undrain ${nodeId}"`,
    );
  const own = connectedNode({ nodeId, generation }, node, description);
  undo.defer(new NodeLease(app, own, onReplaced).start());
  return own;
}

/** Settles what earlier runs of this host's node left, before the server takes requests, which no snapshot store that is away may put off, and begins its jobs. Returns what ends them. */
export async function takeUpOwnNode(app: AppContext, own: ConnectedNode): Promise<() => Promise<void>> {
  await recover(app, own, "server-restart", new AbortController().signal);
  await purgeExpired(app, own, { replicas: ReplicaRound.silent() }).catch((error: unknown) =>
    app.logger.error({ err: error }, "cannot purge; it is tried again"),
  );
  await own.node.prepare();
  return startNodeJobs(app, own);
}
