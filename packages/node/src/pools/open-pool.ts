import { join } from "node:path";
import { type KeyedLock, type PersistentWork, ReadyQueue } from "@caisson/linux";
import { CaissonError, randomCharacters } from "@caisson/model";
import { ClassStorage, ScratchDisks, SpaceGuard, SpreadStorage, type StorageDriver } from "@caisson/storage";
import { RootMounts } from "../mounts/root-mounts.ts";
import { VolumeMounts } from "../mounts/volume-mounts.ts";
import type { TakeNodeEvent } from "../node.ts";
import type { NodeLogger } from "../node-logger.ts";
import type { NodeOptions } from "../open-node.ts";
import { importBaseImage } from "./base-image-import.ts";
import { BlankVolumes } from "./blank-volumes.ts";
import { Evictables } from "./evictables.ts";
import { replicatedPool } from "./open-replicated-pool.ts";
import { isOwnImage, type Pool } from "./pool.ts";
import { poolDirectory } from "./pool-directory.ts";

/** What the pools of a node share. */
export interface PoolEnvironment {
  readonly locks: KeyedLock;
  readonly persistent: PersistentWork;
  readonly logger: NodeLogger;
  readonly takeEvent: TakeNodeEvent;
}

/**
 * Opens the pool of one region, with its base image and without what an earlier run left of the node's own. What it acquires goes onto `undo`. A
 * full pool is no failure: there would be no way to make room in it.
 */
export async function openPool(
  region: string,
  options: NodeOptions,
  environment: PoolEnvironment,
  undo: AsyncDisposableStack,
): Promise<Pool> {
  const { locks, persistent, logger, takeEvent } = environment;
  const directory = join(options.directory, "regions", region);
  const tell = (event: Parameters<TakeNodeEvent>[0]): void =>
    void takeEvent(event).catch((error: unknown) =>
      logger.error({ err: error, region, event: event.kind }, "cannot tell what has happened on the node"),
    );
  const shared = {
    ...(options.pool.headroomBytes === null ? {} : { headroomBytes: options.pool.headroomBytes }),
    isAwakeForSyncs: options.isAwakeForSyncs,
    onBackgroundError(error: unknown) {
      tell({ kind: "background-error", work: "storage" });
      logger.error({ err: error, region }, "background work of the pool failed");
    },
  };
  const onProblem = (disk: string, problem: string): void => logger.error({ region, disk }, problem);
  const local = await SpreadStorage.open({
    ...shared,
    directory: join(directory, "pool"),
    disks: options.pool.disks.map((disk) => ({
      directory: poolDirectory(disk.directory, region),
      ...(disk.sizeBytes === null ? {} : { poolSizeBytes: disk.sizeBytes }),
    })),
    onProblem,
    ...(options.pool.sizeBytes === null ? {} : { poolSizeBytes: options.pool.sizeBytes }),
  });
  const evictables = new Evictables();
  evictables.register({ name: "spare clones", evict: () => local.evictSpares() });
  const { replicated } = options.pool;
  const storage = await ClassStorage.open({
    local,
    replicated:
      replicated === null
        ? null
        : replicatedPool(replicated, region, { ...shared, stateDirectory: join(directory, "replicated") }, evictables),
    onProblem,
  });
  undo.defer(() => storage.close());
  // What an import that failed undoes again and again needs the pool.
  undo.defer(() => persistent.close());
  const guard = undo.use(
    new SpaceGuard(storage, {
      onError(error) {
        tell({ kind: "background-error", work: "space-guard" });
        logger.error({ err: error, region }, "cannot watch the space of the pool");
      },
      onHold(volumeIds) {
        logger.error({ region, volumeIds }, "the pool is full: writers of volumes stand still");
        tell({ kind: "pool-full", region, volumeIds });
      },
    }),
  );
  const mountRoot = join(directory, "mounts");
  const mounts = { storage, directory: mountRoot, locks, logger };
  const roots = new RootMounts(mounts);
  undo.defer(() => roots.close());
  const scratchDisks = new ScratchDisks(storage, { mountRoot, sizeBytes: options.scratch.sizeBytes, guard });
  const scratch = undo.use(
    new ReadyQueue(options.scratch.preparedCount, () => scratchDisks.create(`scr_${randomCharacters(20)}`)),
  );
  const unlessFull = <T>(work: string, made: Promise<T>): Promise<T | null> =>
    made.catch((error: unknown) => {
      if (!(error instanceof CaissonError && error.code === "STORAGE_FULL")) throw error;
      logger.error({ err: error, region }, `cannot ${work}, because the pool is full; sandboxes need it`);
      return null;
    });
  const base = await unlessFull(
    "import the built-in image",
    importBaseImage({ persistent, locks }, local, options.baseImage),
  );
  const template = await unlessFull("make the template of scratch disks", scratchDisks.prepare());
  const ownImageIds = new Set([base?.imageId, template].filter((id) => id != null));
  await removeLeftovers(local, { region, ownImageIds, logger });
  return {
    region,
    storage,
    local,
    hasReplicated: replicated !== null,
    baseImages: base === null ? [] : [base],
    roots,
    volumes: new VolumeMounts(mounts, {
      guard,
      onDamage: (volumeId, message) => takeEvent({ kind: "volume-damaged", volumeId, message }),
    }),
    blanks: new BlankVolumes({ persistent }, storage),
    scratch,
    evictables,
    ownImageIds,
    locks,
    persistent,
    logger,
  };
}

/** Scratch disks of an earlier run, base images that are not used any more, and what was being made. What cannot be removed is reported. */
async function removeLeftovers(
  storage: StorageDriver,
  { region, ownImageIds, logger }: Pick<Pool, "region" | "ownImageIds" | "logger">,
): Promise<void> {
  try {
    for await (const { id } of storage.listImages()) {
      if (ownImageIds.has(id) || !isOwnImage({ ownImageIds }, id)) continue;
      await storage.deleteImage(id).catch((error: unknown) => {
        logger.error({ err: error, id, region }, "cannot delete an image that nobody needs");
      });
    }
  } catch (error) {
    logger.error({ err: error, region }, "cannot look for what an earlier run has left in the pool");
  }
}
