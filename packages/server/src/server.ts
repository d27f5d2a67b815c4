import { chmod, mkdir, stat } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { dirname, join, resolve } from "node:path";
import type { Server as TlsServer } from "node:tls";
import type { Store } from "@caisson/database";
import { isDoneWithin, KeyedLock, PersistentWork, ReadyQueue } from "@caisson/linux";
import { CaissonError, randomCharacters } from "@caisson/model";
import { MEMORY_LIMITS_MB } from "@caisson/protocol";
import { OciRuntime, PLACES_DEFAULT } from "@caisson/runtime";
import { ScratchDisks, SpaceGuard, SpreadStorage } from "@caisson/storage";
import type { Logger } from "pino";
import { LiveConnections } from "./app/access/live-connections.ts";
import type { AppContext } from "./app/context.ts";
import { RoomMaker } from "./app/disks/room.ts";
import { beginNode } from "./app/nodes/node-begin.ts";
import { poolDirectory } from "./app/pool/pool-directory.ts";
import { recordPoolEvent } from "./app/pool/pool-event.ts";
import { Previews } from "./app/previews/previews.ts";
import type { Region } from "./app/region.ts";
import { LiveSandboxes } from "./app/sandboxes/live-sandboxes.ts";
import { endSandbox } from "./app/sandboxes/sandbox-end.ts";
import { SshAccesses, type SshEndpoint } from "./app/ssh/ssh-accesses.ts";
import { importBaseImage } from "./app/volumes/base-image-import.ts";
import { BlankVolumes } from "./app/volumes/blank-volumes.ts";
import { RootMounts } from "./app/volumes/root-mounts.ts";
import { recordVolumeDamage } from "./app/volumes/volume-damage.ts";
import { VolumeMounts } from "./app/volumes/volume-mounts.ts";
import { type BaseImageFile, ensureBaseImage } from "./base-image/index.ts";
import type { Config } from "./config.ts";
import { type Credentials, CredentialsFile } from "./credentials.ts";
import { lockDataDirectory } from "./data-directory.ts";
import { openStore } from "./database/open-store.ts";
import { handleUpgrade } from "./gateway/gateway.ts";
import { UpgradedConnections } from "./gateway/upgraded-connections.ts";
import { buildHttp } from "./http/server.ts";
import { clearTextWarning, explainListening, requireFreeAddress } from "./listen-address.ts";
import { Metrics } from "./metrics/metrics.ts";
import { ensureNodeId } from "./node-file.ts";
import { startPreviews } from "./previews/start-previews.ts";
import { LEASE_MS, NodeLease } from "./reconcilers/node-lease.ts";
import { purgeExpired, startPeriodicJobs } from "./reconcilers/periodic.ts";
import { recover } from "./reconcilers/recover.ts";
import { startSsh } from "./ssh/start-ssh.ts";
import { readTls, reloadTls } from "./tls.ts";

/** How long the ends of sandboxes may take when the server ends. */
const SHUTDOWN_WAIT_MS = 15_000;

export interface Server {
  readonly credentials: Credentials;
  /** Null: SSH is switched off. */
  readonly ssh: SshEndpoint | null;
  /** Takes no more requests, ends every sandbox, releases everything. */
  close(): Promise<void>;
}

/**
 * Composes the server: the only place that names concrete drivers. What is acquired first is released last, also when a later part fails. The data
 * directory holds the database, a pool for each region, the credentials and the places to mount at. When another server has taken the database, or
 * is this node now, `onDisplaced` must end the process: that server has recorded the end of every sandbox of this one.
 */
export async function startServer(
  config: Config,
  logger: Logger,
  onDisplaced: (error: Error) => void,
): Promise<Server> {
  await using undo = new AsyncDisposableStack();
  const directory = resolve(config.dataDirectory);
  await makeDirectories(directory);
  undo.use(await lockDataDirectory(directory));
  const tls = config.tls === null ? null : await readTls(config.tls);
  const warning = clearTextWarning(config);
  if (warning !== null) logger.warn(warning);
  await requireFreeAddress(config.listenHost, config.listenPort);
  const store = await openStore({ dataDirectory: directory, databaseUrl: config.databaseUrl }, onDisplaced);
  undo.defer(() => store.close());

  const locks = new KeyedLock();
  const metrics = undo.use(new Metrics());
  const persistent = new PersistentWork(logger, () => metrics.countBackgroundError("retry"));
  const baseImageFile = await ensureBaseImage({
    cacheDirectory: join(config.cacheDirectory, "images"),
    onProgress: (progress) => logger.info({ progress }, progress.message),
  });
  const regions = new Map<string, Region>();
  for (const name of config.regions)
    regions.set(
      name,
      await openRegion(config, name, { baseImageFile, store, locks, persistent, metrics, logger, undo }),
    );

  const { diskLimits } = config.sandboxes;
  const runtime = await OciRuntime.open({
    runDirectory: join(directory, "run"),
    network: { ...config.network, placeCount: Math.max(config.sandboxes.max, PLACES_DEFAULT) },
    startTimeoutMs: config.sandboxes.startTimeoutMs,
    stopGraceMs: config.sandboxes.stopGraceMs,
    warm: { count: config.sandboxes.warmCount, memoryBytes: MEMORY_LIMITS_MB.default * 2 ** 20 },
    logger,
    ...(diskLimits === null ? {} : { diskLimits }),
  });
  undo.defer(() => runtime.close());

  const nodeId = await ensureNodeId(directory, store);
  const node = await beginNode({ config, store }, { id: nodeId, hostPlaces: runtime.placeCount, leaseMs: LEASE_MS });
  if (node.isDraining)
    logger.warn(
      { nodeId },
      `this node is being drained and takes no new sandboxes: end that with "caisson nodes undrain ${nodeId}"`,
    );
  const owner = { nodeId, generation: node.generation };
  undo.defer(new NodeLease({ store, owner, metrics, logger }, onDisplaced).start());

  const app: AppContext = {
    config,
    store,
    owner,
    runtime,
    regions,
    locks,
    live: new LiveSandboxes(),
    connections: new LiveConnections(),
    previews: new Previews(config.expose.domain, config.expose),
    ssh: new SshAccesses(config.ssh?.connectionsPerSandbox ?? 0),
    credentials: new CredentialsFile(store, directory),
    persistent,
    metrics,
    logger,
  };
  // What is tried again needs the runtime too.
  undo.defer(() => persistent.close());
  await recover(app);
  await purgeExpired(app).catch((error: unknown) => logger.error({ err: error }, "cannot purge; it is tried again"));
  for (const region of regions.values()) region.scratch.fill();
  undo.defer(startPeriodicJobs(app));

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
  undo.use(await startPreviews(app));
  undo.use(await startSsh(app));
  // Before the listener closes, which waits for every client to be gone.
  undo.defer(() => endAllSandboxes(app));
  http.server.on("upgrade", (request, socket, head) => {
    upgraded.add(socket);
    void handleUpgrade(app, request, socket, head);
  });
  const { listenHost: host, listenPort: port } = config;
  await explainListening(host, port, () => http.listen({ host, port }));
  const { credentials, isTokenReplaced } = await app.credentials.ensure(
    config.publicUrl ?? localEndpoint(http.server.address() as AddressInfo),
  );
  if (isTokenReplaced)
    logger.warn("The token in credentials.json was revoked: there is a new one in it, which `caisson env` prints");
  const resources = undo.move();
  return { credentials, ssh: app.ssh.endpoint, close: () => resources.disposeAsync() };
}

/** Waits for every end, but not for one that keeps failing: the kernel drops what is left, and the next start closes the row. */
async function endAllSandboxes(app: AppContext): Promise<void> {
  await app.live.refuseMore();
  const ends = app.live.all().map((live) => endSandbox(app, live, "server-stopped"));
  await isDoneWithin(
    Promise.all(ends).then((all) => all.every(Boolean)),
    SHUTDOWN_WAIT_MS,
  );
}

/**
 * Makes the data directory. Sandboxes' own ids pass through it to their mounts, so it and everything above it must be searchable; what is secret in
 * it is closed by itself. Throws `INVALID_CONFIG` for a place that cannot be used.
 */
async function makeDirectories(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  await chmod(directory, 0o711);
  for (let above = dirname(directory); above !== dirname(above); above = dirname(above)) {
    if (((await stat(above)).mode & 0o001) !== 0) continue;
    throw new CaissonError(
      "INVALID_CONFIG",
      `Cannot keep data in ${directory}: sandboxes could not pass ${above}. Run chmod o+x ${above}, or give another directory with --data`,
    );
  }
  await mkdir(join(directory, "database"), { recursive: true, mode: 0o700 });
}

async function openRegion(
  config: Config,
  name: string,
  {
    baseImageFile,
    store,
    locks,
    persistent,
    metrics,
    logger,
    undo,
  }: {
    readonly baseImageFile: BaseImageFile;
    readonly store: Store;
    readonly locks: KeyedLock;
    readonly persistent: PersistentWork;
    readonly metrics: Metrics;
    readonly logger: Logger;
    readonly undo: AsyncDisposableStack;
  },
): Promise<Region> {
  const directory = join(resolve(config.dataDirectory), "regions", name);
  const storage = await SpreadStorage.open({
    directory: join(directory, "pool"),
    disks: config.pool.disks.map((disk) => ({
      directory: poolDirectory(disk, name),
      ...(disk.sizeBytes === null ? {} : { poolSizeBytes: disk.sizeBytes }),
    })),
    onProblem: (disk, problem) => logger.error({ region: name, disk }, problem),
    ...(config.pool.sizeBytes === null ? {} : { poolSizeBytes: config.pool.sizeBytes }),
    ...(config.pool.headroomBytes === null ? {} : { headroomBytes: config.pool.headroomBytes }),
    isAwakeForSyncs: config.volumes.isAwakeForSyncs,
    onBackgroundError(error) {
      metrics.countBackgroundError("storage");
      logger.error({ err: error, region: name }, "background work of the pool failed");
    },
  });
  undo.defer(() => storage.close());
  const room = new RoomMaker();
  room.register({ name: "spare clones", evict: () => storage.evictSpares() });
  // What an import that failed undoes again and again needs the pool.
  undo.defer(() => persistent.close());
  const guard = undo.use(
    new SpaceGuard(storage, {
      onError(error) {
        metrics.countBackgroundError("space-guard");
        logger.error({ err: error, region: name }, "cannot watch the space of the pool");
      },
      onHold(imageIds) {
        metrics.poolHolds.inc({ region: name });
        logger.error({ region: name, volumeIds: imageIds }, "the pool is full: writers of volumes stand still");
        void recordPoolEvent(store, name, "pool-hold", "STORAGE_FULL", { volumeIds: imageIds }).catch(
          (error: unknown) => logger.error({ err: error, region: name }, "cannot record that writers stand still"),
        );
      },
    }),
  );
  const mountRoot = join(directory, "mounts");
  const mounts = { storage, directory: mountRoot, locks, logger };
  const roots = new RootMounts(mounts);
  undo.defer(() => roots.close());
  const scratchDisks = new ScratchDisks(storage, { mountRoot, sizeBytes: config.sandboxes.scratchBytes, guard });
  const scratch = undo.use(
    new ReadyQueue(config.sandboxes.preparedScratchDisks, () => scratchDisks.create(`scr_${randomCharacters(20)}`)),
  );
  // A full pool must not keep the server from starting: there would be no way to make room in it.
  const unlessFull = <T>(work: string, made: Promise<T>): Promise<T | null> =>
    made.catch((error: unknown) => {
      if (!(error instanceof CaissonError && error.code === "STORAGE_FULL")) throw error;
      logger.error({ err: error, region: name }, `cannot ${work}, because the pool is full; sandboxes need it`);
      return null;
    });
  const base = await unlessFull(
    "import the built-in image",
    importBaseImage({ persistent, locks }, storage, baseImageFile),
  );
  const template = await unlessFull("make the template of scratch disks", scratchDisks.prepare());
  return {
    name,
    storage,
    baseImages: new Map(base === null ? [] : [[base.name, base]]),
    roots,
    volumes: new VolumeMounts(mounts, {
      guard,
      onDamage: (volumeId, message) => recordVolumeDamage({ store, metrics }, volumeId, message),
    }),
    blanks: new BlankVolumes({ persistent }, storage),
    scratch,
    room,
    ownImageIds: new Set([base?.imageId, template].filter((id) => id != null)),
  };
}

/** Where clients on this machine reach the server. */
function localEndpoint(address: AddressInfo): string {
  const isWildcard = address.address === "0.0.0.0" || address.address === "::";
  const host = isWildcard ? "127.0.0.1" : address.address;
  return `http://${host.includes(":") ? `[${host}]` : host}:${address.port}`;
}
