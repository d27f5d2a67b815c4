import { randomUUID } from "node:crypto";
import type { Duplex } from "node:stream";
import { type PersistentWork, step } from "@caisson/linux";
import { CaissonError, type Labels } from "@caisson/model";
import type { ExitCause, SandboxRuntime } from "@caisson/runtime";
import { growFileSystem, type ImagePlace, type PoolCapacity, recoverFileSystem } from "@caisson/storage";
import { createDisk } from "./disks/disk-create.ts";
import { measureDisk } from "./disks/disk-measure.ts";
import { sealDisk } from "./disks/disk-seal.ts";
import { exportDisk, importDisk } from "./disks/disk-transfer.ts";
import { withDevice } from "./disks/with-device.ts";
import type {
  DiskExport,
  DiskMeasurement,
  DiskPiece,
  DiskReference,
  ExportSpec,
  ImportSpec,
  MeasureOptions,
  NewDiskSpec,
  NodeDescription,
  OwnPoolUsage,
  PoolGrowth,
  PresentSandbox,
  SandboxEnd,
  SandboxSpec,
  SealedDisk,
  SealSpec,
  StartedSandbox,
  TakeNodeEvent,
} from "./node.ts";
import type { NodeLogger } from "./node-logger.ts";
import type { OpenNode } from "./open-node.ts";
import { isOwnImage, type Pool } from "./pools/pool.ts";
import { poolDirectory } from "./pools/pool-directory.ts";
import { HostSandboxes } from "./sandboxes/host-sandboxes.ts";

/** What a node is made of. */
export interface NodeParts {
  readonly pools: ReadonlyMap<string, Pool>;
  readonly labels: Labels;
  readonly runtime: SandboxRuntime;
  readonly persistent: PersistentWork;
  readonly logger: NodeLogger;
  readonly takeEvent: TakeNodeEvent;
}

/** The node of the host that this process runs on. */
export class HostNode implements OpenNode {
  readonly #parts: NodeParts;
  readonly #resources: AsyncDisposableStack;
  readonly #sandboxes: HostSandboxes;
  readonly #runId = randomUUID();
  readonly #unfinishedDisks = new Set<string>();

  constructor(parts: NodeParts, resources: AsyncDisposableStack) {
    this.#parts = parts;
    this.#resources = resources;
    this.#sandboxes = new HostSandboxes(parts);
  }

  async describe(): Promise<NodeDescription> {
    const { pools, labels, runtime, persistent } = this.#parts;
    return {
      runId: this.#runId,
      regions: [...pools.values()].map(({ region, baseImages, hasReplicated, storage: { shared } }) => ({
        name: region,
        baseImages,
        hasReplicated,
        shared: shared === null ? null : { identity: shared.identity, instance: shared.clientInstance },
      })),
      labels,
      placeCount: runtime.placeCount,
      placeBound: runtime.placeBound,
      retriedWorkCount: persistent.failingCount,
    };
  }

  async prepare(): Promise<void> {
    for (const { scratch } of this.#parts.pools.values()) scratch.fill();
  }

  async poolCapacity(region: string): Promise<PoolCapacity> {
    return this.#pool(region).storage.capacity();
  }

  async ownPoolUsage(region: string): Promise<OwnPoolUsage> {
    const { local: storage, ownImageIds } = this.#pool(region);
    let builtInBytes = 0;
    let scratchBytes = 0;
    for await (const { id } of storage.listImages()) {
      if (ownImageIds.has(id)) builtInBytes += await storage.storedBytes(id);
      else if (id.startsWith("scr_")) scratchBytes += await storage.storedBytes(id);
    }
    return { builtInBytes, scratchBytes };
  }

  async growPool(region: string, { sizeBytes, disk }: PoolGrowth): Promise<void> {
    const directory = disk === null ? undefined : poolDirectory(disk, region);
    await this.#pool(region).storage.growPool(sizeBytes, directory);
  }

  async makeRoom(region: string): Promise<void> {
    const { evictables, storage, logger } = this.#pool(region);
    await evictables.evict(storage, logger);
  }

  async createDisk(disk: NewDiskSpec): Promise<void> {
    await createDisk(this.#pool(disk.region), this.#unfinishedDisks, disk);
  }

  async sealDisk(seal: SealSpec): Promise<SealedDisk> {
    return sealDisk(this.#pool(seal.region), seal);
  }

  async exportDisk({ region, id, base = null }: ExportSpec): Promise<DiskExport> {
    return exportDisk(this.#pool(region), id, base);
  }

  async importDisk(disk: ImportSpec, pieces: AsyncIterable<DiskPiece>, signal: AbortSignal): Promise<void> {
    await importDisk(this.#pool(disk.region), disk, pieces, signal);
  }

  async growDisk({ region, id }: DiskReference, sizeBytes: number): Promise<void> {
    const pool = this.#pool(region);
    await pool.locks.run(id, async () => {
      await step("disk-grow.image", () => pool.storage.growImage(id, sizeBytes));
      await step("disk-grow.file-system", () => withDevice(pool, pool.storage, id, growFileSystem));
    });
  }

  async deleteDisk({ region, id }: DiskReference): Promise<"deleted" | "in-use"> {
    const { roots, storage, locks } = this.#pool(region);
    if (!(await roots.evict(id))) return "in-use";
    await locks.run(id, () => storage.deleteImage(id));
    this.#unfinishedDisks.delete(id);
    return "deleted";
  }

  /** `living`: a server of an older version names none. */
  async recoverDisk({ region, id }: DiskReference, living: readonly string[] = []): Promise<void> {
    const pool = this.#pool(region);
    await pool.locks.run(id, async () => {
      await pool.storage.takeOver(id, living);
      if ((await pool.storage.getImage(id)) === null) return;
      await withDevice(pool, pool.storage, id, (path) => step("recover.file-system", () => recoverFileSystem(path)));
    });
  }

  async fence(region: string, instance: string): Promise<void> {
    await this.#pool(region).storage.fence(instance);
  }

  async getDisk({ region, id }: DiskReference): Promise<{ readonly sizeBytes: number } | null> {
    const image = await this.#pool(region).storage.getImage(id);
    return image === null ? null : { sizeBytes: image.sizeBytes };
  }

  async measureDisk({ region, id }: DiskReference, options: MeasureOptions): Promise<DiskMeasurement | null> {
    return measureDisk(this.#pool(region), id, options);
  }

  async tendDisk({ region, id }: DiskReference): Promise<void> {
    const { volumes } = this.#pool(region);
    await volumes.trim(id);
    await volumes.checkHealth(id);
  }

  async listDisks(region: string): Promise<readonly string[]> {
    const pool = this.#pool(region);
    const ids: string[] = [];
    for await (const { id } of pool.storage.listImages()) if (!isOwnImage(pool, id)) ids.push(id);
    return ids;
  }

  async listMountedDisks(region: string): Promise<readonly string[]> {
    return this.#pool(region).volumes.ids();
  }

  async placesOf(region: string, ids: readonly string[]): Promise<readonly ImagePlace[]> {
    const { storage } = this.#pool(region);
    return ids.map((id) => storage.placeOf(id));
  }

  async startSandbox(sandbox: SandboxSpec, signal: AbortSignal): Promise<StartedSandbox> {
    return this.#sandboxes.start(sandbox, this.#pool(sandbox.region), signal);
  }

  async stopSandbox(id: string): Promise<SandboxEnd> {
    return this.#sandboxes.stop(id);
  }

  async listSandboxes(): Promise<readonly PresentSandbox[]> {
    return this.#sandboxes.list();
  }

  async ownEnd(id: string): Promise<ExitCause | null> {
    return this.#sandboxes.ownEnd(id);
  }

  openAgent(id: string): Duplex {
    return this.#sandboxes.openAgent(id);
  }

  async connectInside(id: string, port: number, address?: string): Promise<Duplex> {
    return this.#sandboxes.connectInside(id, port, address);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }

  #pool(region: string): Pool {
    const pool = this.#parts.pools.get(region);
    if (pool !== undefined) return pool;
    throw new CaissonError("REGION_UNAVAILABLE", `There is no pool of region ${JSON.stringify(region)} on this host`);
  }
}
