import { mkdir } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { join, resolve } from "node:path";
import type { Server as TlsServer } from "node:tls";
import type { Leader } from "@caisson/database";
import { KeyedLock, PersistentWork } from "@caisson/linux";
import { LinkedNode } from "@caisson/node-link";
import type { Logger } from "pino";
import { LiveConnections } from "./app/access/live-connections.ts";
import { BackupWatch } from "./app/backups/backup-watch.ts";
import type { AppContext } from "./app/context.ts";
import { RoomMaker } from "./app/disks/room.ts";
import { InstallationAuthority } from "./app/nodes/installation-authority.ts";
import { NodeDirectory } from "./app/nodes/node-directory.ts";
import { forgetLostNodes } from "./app/nodes/node-loss.ts";
import { Previews } from "./app/previews/previews.ts";
import { reportUnknownPolicies } from "./app/replication/replication-policy.ts";
import { Replicator } from "./app/replication/replicator.ts";
import { SnapshotFetches } from "./app/replication/snapshot-fetches.ts";
import { RestoredDisks } from "./app/restored/restored-disks.ts";
import { LiveSandboxes } from "./app/sandboxes/live-sandboxes.ts";
import { openAgent } from "./app/sandboxes/sandbox-connect.ts";
import { endAllSandboxes } from "./app/sandboxes/sandbox-end-all.ts";
import { SshAccesses, type SshEndpoint } from "./app/ssh/ssh-accesses.ts";
import { TransferPlaces } from "./app/transfers/transfer-places.ts";
import type { Config } from "./config.ts";
import { type Credentials, CredentialsFile } from "./credentials.ts";
import { lockDataDirectory, makeDataDirectory } from "./data-directory.ts";
import { openStore } from "./database/open-store.ts";
import { handleUpgrade } from "./gateway/gateway.ts";
import { UpgradedConnections } from "./gateway/upgraded-connections.ts";
import { buildHttp } from "./http/server.ts";
import { clearTextWarning, explainListening, requireFreeAddress } from "./listen-address.ts";
import { Metrics } from "./metrics/metrics.ts";
import { openOwnNode, takeUpOwnNode } from "./own-node.ts";
import { startPreviews } from "./previews/start-previews.ts";
import { expireRows, startRowJobs } from "./reconcilers/periodic.ts";
import { RemoteNodes } from "./reconcilers/remote-nodes.ts";
import { requireRestored } from "./restore/restore-target.ts";
import { openSnapshotStore } from "./snapshot-store/open-snapshot-store.ts";
import { startSsh } from "./ssh/start-ssh.ts";
import { serverAddress } from "./standby/server-address.ts";
import { Standby } from "./standby/standby.ts";
import { readTls, reloadTls } from "./tls.ts";

/** How long a start waits for nodes on other machines; it goes on without those that take longer. */
const REMOTE_WAIT_MS = 2_000;

/** `control`: without a node of its own, so that everything happens on other machines. */
export type ServerRole = "all" | "control";

export interface ServerHooks {
  /** Another server has taken the database, or is this node now: the process must end. That server has recorded the end of every sandbox of this one. */
  onDisplaced(error: Error): void;
  /** Another server leads, and this one stands by for it, until it leads itself. */
  onStandby(leader: Leader): void;
}

export interface Server {
  readonly credentials: Credentials;
  /** Null: SSH is switched off. */
  readonly ssh: SshEndpoint | null;
  /** Takes no more requests, ends every sandbox, releases everything. */
  close(): Promise<void>;
}

/**
 * Composes the server, with the node of this host in the same process unless its role is `control`. What is acquired first is released last, also when a later part fails. The data
 * directory holds the database, the credentials, and for that node a pool for each region and the places to mount at. A server without a node of its own, on PostgreSQL, stands by while another one
 * of its installation leads.
 */
export async function startServer(
  config: Config,
  role: ServerRole,
  logger: Logger,
  { onDisplaced, onStandby }: ServerHooks,
): Promise<Server> {
  await using undo = new AsyncDisposableStack();
  const directory = resolve(config.dataDirectory);
  const made = await makeDataDirectory(directory);
  undo.use(await lockDataDirectory(directory));
  // Removed while it is locked still.
  undo.use(made);
  // Another start that failed may have removed the directory before.
  await mkdir(join(directory, "database"), { recursive: true, mode: 0o700 });
  await requireRestored(directory);
  const firstTls = config.tls === null ? null : await readTls(config.tls);
  const warning = clearTextWarning(config);
  if (warning !== null) logger.warn(warning);
  await requireFreeAddress(config.listenHost, config.listenPort);
  const standby = role === "control" ? undo.use(new Standby(config, logger, onStandby)) : null;
  // What it lacks shows now, and not when it has to take over.
  if (standby !== null && typeof config.expose.tls === "object") await readTls(config.expose.tls, "expose");
  const { databaseUrl } = config;
  const metrics = undo.use(new Metrics());
  const onLogProblem = (error: unknown): void => {
    metrics.countBackgroundError("database");
    logger.error({ err: error }, "cannot move the log of the database into it: the log grows until that succeeds");
  };
  const hooks = { onDisplaced, onLogProblem, standBy: standby };
  const store = await openStore({ dataDirectory: directory, databaseUrl }, hooks);
  undo.defer(() => store.close());
  standby?.hold();
  // It may have been renewed while this server stood by.
  const tls = config.tls === null ? null : await readTls(config.tls).catch(() => firstTls);

  const live = new LiveSandboxes();
  const parts = { config, directory, store, metrics, live, logger };
  const own = role === "control" ? null : await openOwnNode(parts, undo, onDisplaced);
  const nodes = new NodeDirectory(own?.owner.nodeId ?? null);
  if (own !== null) nodes.add(own);

  const snapshotStore =
    config.snapshotStore === null
      ? null
      : undo.use(await openSnapshotStore(config.snapshotStore, directory, store.snapshotStore));
  const app: AppContext = {
    config,
    store,
    nodes,
    authority: new InstallationAuthority(store),
    locks: new KeyedLock(),
    room: new RoomMaker(),
    live,
    connections: new LiveConnections(),
    previews: new Previews(config.expose.domain, config.expose, (sandbox) => openAgent({ nodes }, sandbox)),
    ssh: new SshAccesses(config.ssh?.connectionsPerSandbox ?? 0),
    transfers: new TransferPlaces(config.transfers),
    snapshotStore,
    replicator: new Replicator(),
    backups: new BackupWatch(directory),
    restored: await RestoredDisks.open(directory),
    fetches: new SnapshotFetches(),
    credentials: new CredentialsFile(store, directory),
    persistent: new PersistentWork(logger, () => metrics.countBackgroundError("retry")),
    metrics,
    logger,
  };
  // What is tried again needs the node.
  undo.defer(() => app.persistent.close());
  if (own !== null) undo.defer(await takeUpOwnNode(app, own));
  await expireRows(app).catch((error: unknown) => logger.error({ err: error }, "cannot forget old rows yet"));
  await forgetLostNodes(app).catch((error: unknown) =>
    logger.error({ err: error }, "cannot see which nodes are lost yet; it is tried again"),
  );
  undo.defer(startRowJobs(app));
  const credentials = () => app.authority.controlCredentials();
  const term = store.leadership?.term ?? 0;
  const remote = undo.use(new RemoteNodes(app, (options) => new LinkedNode({ ...options, credentials, term, logger })));
  await remote.start(REMOTE_WAIT_MS);
  if (snapshotStore !== null) undo.defer(app.replicator.start(app, snapshotStore));
  await reportUnknownPolicies(app).catch((error: unknown) => logger.error({ err: error }, "cannot list the regions"));

  const http = await buildHttp(app, tls);
  if (config.tls !== null && tls !== null)
    undo.defer(reloadTls(config.tls, tls, http.server as unknown as Pick<TlsServer, "setSecureContext">, logger));
  const upgraded = new UpgradedConnections();
  metrics.watchConnections(http.server, () => upgraded.count);
  undo.defer(async () => {
    const closing = http.close();
    upgraded.close();
    await closing;
  });
  standby?.release("previews");
  const previews = undo.use(await startPreviews(app));
  standby?.release("ssh");
  const ssh = undo.use(await startSsh(app));
  // Before the listener closes, which waits for every client to be gone.
  undo.defer(() => endAllSandboxes(app));
  http.server.on("upgrade", (request, socket, head) => {
    upgraded.add(socket);
    void handleUpgrade(app, request, socket, head);
  });
  const { listenHost: host, listenPort: port } = config;
  standby?.release("api");
  await explainListening(host, port, () => http.listen({ host, port }));
  const bound = http.server.address() as AddressInfo;
  if (standby !== null) {
    const address = serverAddress(config, { api: bound.port, previews: previews.port, ssh: ssh.port });
    await store.leadership?.announce(address);
    standby.relayToSelf(address);
  }
  const { credentials: shown, isTokenReplaced } = await app.credentials.ensure(
    config.publicUrl ?? localEndpoint(bound),
  );
  if (isTokenReplaced)
    logger.warn("The token in credentials.json was revoked: there is a new one in it, which `caisson env` prints");
  const resources = undo.move();
  return { credentials: shown, ssh: app.ssh.endpoint, close: () => resources.disposeAsync() };
}

/** Where clients on this machine reach the server. */
function localEndpoint(address: AddressInfo): string {
  const isWildcard = address.address === "0.0.0.0" || address.address === "::";
  const host = isWildcard ? "127.0.0.1" : address.address;
  return `http://${host.includes(":") ? `[${host}]` : host}:${address.port}`;
}
