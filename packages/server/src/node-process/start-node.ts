import { join, resolve } from "node:path";
import { CaissonError } from "@caisson/model";
import { openNode } from "@caisson/node";
import { NodeEvents, serveNode } from "@caisson/node-link";
import type { Logger } from "pino";
import { ensureBaseImage } from "../base-image/index.ts";
import type { Config } from "../config.ts";
import { lockDataDirectory, makeDataDirectory } from "../data-directory.ts";
import { explainListening, requireFreeAddress } from "../listen-address.ts";
import { nodeOptions } from "../node-options.ts";
import { dismissedError, ensureMembership } from "./membership.ts";
import { rememberDismissal } from "./membership-file.ts";
import { MembershipRenewal } from "./membership-renewal.ts";
import { ownAddress } from "./node-address.ts";

/** When no server has connected by then, the log says where it is looked for. */
const LONELY_MS = 30_000;
const ADDRESS_SETTING = "--address HOST:PORT (`node.address` in caisson.toml)";

export interface NodeProcess {
  readonly nodeId: string;
  /** `HOST:PORT`, where the server reaches it. */
  readonly address: string;
  /** Ends every sandbox, releases everything. */
  close(): Promise<void>;
}

export interface NodeProcessOptions {
  /** Null: it has joined before. */
  readonly joinToken: string | null;
  /** `HOST` or `HOST:PORT`; null: as the settings say. */
  readonly address: string | null;
  /** The installation has forgotten this node, which is remembered: the process is to end, and says why. */
  readonly onDismissed: (error: CaissonError) => void;
  /** This run was shut out of the replicated pool: the process is to end at once, without unmounting anything, and the next run goes on. */
  readonly onExpelled: (error: CaissonError) => void;
}

/**
 * The process of a node on a machine of its own: the node of this host, served to the servers of the installation that it belongs to. It has no database, and decides nothing. What is acquired first is
 * released last, also when a later part fails.
 */
export async function startNode(config: Config, options: NodeProcessOptions, logger: Logger): Promise<NodeProcess> {
  await using undo = new AsyncDisposableStack();
  if (config.databaseUrl !== null)
    throw new CaissonError("INVALID_CONFIG", `A node has no database: remove "database" from ${config.configPath}`);
  const directory = resolve(config.dataDirectory);
  const made = await makeDataDirectory(directory);
  undo.use(await lockDataDirectory(directory));
  // Removed while it is locked still.
  undo.use(made);
  const { text: address, listenHost, port } = ownAddress(options.address ?? config.node.address);
  await explainAddress(() => requireFreeAddress(listenHost ?? "0.0.0.0", port));
  const { regions } = config;
  const { nodeId, certificate, key, authority, movedFrom } = await ensureMembership(directory, {
    token: options.joinToken,
    address,
    regions,
  });
  if (movedFrom !== null)
    logger.warn(
      { nodeId, address, before: movedFrom },
      `this node was at ${movedFrom} before. If the server does not know yet, it looks for it there. On the server: caisson nodes set-address ${nodeId} ${address}`,
    );
  const baseImageFile = await ensureBaseImage({
    cacheDirectory: join(config.cacheDirectory, "images"),
    onProgress: (progress) => logger.info({ progress }, progress.message),
  });
  const events = new NodeEvents();
  const node = undo.use(
    await openNode({ ...nodeOptions(config, directory, baseImageFile), logger, takeEvent: events.take }),
  );
  const credentials = { cert: certificate, key, authority };
  const onDismissed = async (forgottenAt: string) => {
    await rememberDismissal(directory, forgottenAt);
    options.onDismissed(dismissedError(directory, nodeId, forgottenAt));
  };
  const onExpelled = () => options.onExpelled(expelledError(nodeId));
  const renewal = new MembershipRenewal(directory, nodeId);
  const served = undo.use(
    await explainAddress(() =>
      serveNode({ node, events, credentials, onDismissed, onExpelled, renewal, host: listenHost, port, logger }),
    ),
  );
  const lonely = setTimeout(() => {
    if (served.hasControl()) return;
    logger.warn(
      { nodeId, address },
      `no server has connected for ${LONELY_MS / 1000} s: it looks for this node at ${address}. Is a firewall in between? On the server, see: caisson nodes show ${nodeId}`,
    );
  }, LONELY_MS);
  undo.defer(() => clearTimeout(lonely));
  // While the node is served still. Where no server does it, the kernel ends them, and the server learns of it at the next start.
  undo.defer(async () => {
    if (served.hasControl())
      await events
        .tellOfStopping()
        .catch((error: unknown) => logger.warn({ err: error }, "no server has ended the sandboxes of this node"));
  });
  const resources = undo.move();
  return { nodeId, address, close: () => resources.disposeAsync() };

  function explainAddress<T>(listen: () => Promise<T>): Promise<T> {
    return explainListening(listenHost ?? "0.0.0.0", port, listen, ADDRESS_SETTING);
  }
}

/** What the operator of a node is to know whose run was shut out. */
function expelledError(nodeId: string): CaissonError {
  return new CaissonError(
    "NODE_UNAVAILABLE",
    `This run of node ${nodeId} ends with all its sandboxes: the server could not reach it until its lease had run out, and another node has taken over a replicated volume that it had. ` +
      "Start it again: what it still has is used as before",
  );
}
