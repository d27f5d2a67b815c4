import { mkdir } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { openSqliteStore } from "@caisson/database";
import { tryLockFile } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { OciRuntime } from "@caisson/runtime";
import { openLocalPool } from "@caisson/storage";
import type { Logger } from "pino";
import { importBuiltin } from "./app/builtin-import.ts";
import type { AppContext } from "./app/context.ts";
import { KeyedMutex } from "./app/keyed-mutex.ts";
import { LiveSandboxes } from "./app/live-sandboxes.ts";
import type { Region } from "./app/region.ts";
import { RootMounts } from "./app/root-mounts.ts";
import { endSandbox } from "./app/sandbox-end.ts";
import { ScratchDisks } from "./app/scratch-disks.ts";
import { VolumeMounts } from "./app/volume-mounts.ts";
import type { Config } from "./config.ts";
import { type Credentials, ensureCredentials } from "./credentials.ts";
import { handleUpgrade } from "./gateway/gateway.ts";
import { buildHttp } from "./http/server.ts";
import { ensureImage } from "./images/ensure-image.ts";
import { purgeExpired, startPeriodicJobs } from "./reconcilers/periodic.ts";
import { recover } from "./reconcilers/recover.ts";

export interface Server {
  readonly credentials: Credentials;
  /** Takes no more requests, ends every sandbox, releases everything. */
  close(): Promise<void>;
}

/**
 * Composes the server: the only place that names concrete drivers. What is acquired first is released last, also when a later part fails. The data
 * directory holds the database, a pool for each region, the credentials and the places to mount at.
 */
export async function startServer(config: Config, logger: Logger): Promise<Server> {
  await using undo = new AsyncDisposableStack();
  const directory = config.dataDirectory;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const lock = await tryLockFile(join(directory, "server.lock"));
  if (lock === null) {
    throw new CaissonError("INVALID_CONFIG", `Another server uses the data directory ${directory}: stop it, or give another with --data`);
  }
  undo.use(lock);
  const store = openSqliteStore(join(directory, "caisson.db"));
  undo.defer(() => store.close());

  const locks = new KeyedMutex();
  const image = await ensureImage({
    cacheDirectory: config.cacheDirectory,
    onProgress: ({ message }) => logger.info(message),
  });
  const regions = new Map<string, Region>();
  for (const name of config.regions) regions.set(name, await openRegion(config, name, image, locks, undo));

  const runtime = await OciRuntime.open({ runDirectory: join(directory, "run"), network: config.network, logger });
  undo.defer(() => runtime.close());

  const app: AppContext = { config, store, runtime, regions, locks, live: new LiveSandboxes(), logger };
  await recover(app);
  await purgeExpired(app);
  for (const region of regions.values()) region.scratch.prepare();
  undo.defer(startPeriodicJobs(app));
  undo.defer(async () => {
    await Promise.allSettled(app.live.all().map((live) => endSandbox(app, live, "server-stopped")));
  });

  const http = await buildHttp(app);
  undo.defer(() => http.close());
  http.server.on("upgrade", (request, socket, head) => void handleUpgrade(app, request, socket, head));
  await http.listen({ host: config.listenHost, port: config.listenPort });
  const credentials = await ensureCredentials(store, directory, config.publicUrl ?? localEndpoint(http.server.address() as AddressInfo));
  const resources = undo.move();
  return { credentials, close: () => resources.disposeAsync() };
}

async function openRegion(
  config: Config,
  name: string,
  image: { readonly path: string; readonly key: string; readonly sizeBytes: number },
  locks: KeyedMutex,
  undo: AsyncDisposableStack,
): Promise<Region> {
  const directory = join(config.dataDirectory, "regions", name);
  const storage = await openLocalPool({ directory: join(directory, "pool"), poolFileBytes: config.pool.sizeBytes });
  undo.defer(() => storage.close());
  const roots = new RootMounts(storage, join(directory, "mounts"), locks);
  undo.defer(() => roots.close());
  const scratch = new ScratchDisks(storage, join(directory, "mounts"), {
    sizeBytes: config.sandboxes.scratchBytes,
    preparedCount: config.sandboxes.preparedScratchDisks,
  });
  undo.defer(() => scratch.close());
  const builtin = await importBuiltin(storage, image);
  return {
    name,
    storage,
    builtins: new Map([[builtin.name, builtin]]),
    roots,
    volumes: new VolumeMounts(storage, join(directory, "mounts"), locks),
    scratch,
  };
}

/** Where clients on this machine reach the server. */
function localEndpoint(address: AddressInfo): string {
  const isWildcard = address.address === "0.0.0.0" || address.address === "::";
  const host = isWildcard ? "127.0.0.1" : address.address;
  return `http://${host.includes(":") ? `[${host}]` : host}:${address.port}`;
}
