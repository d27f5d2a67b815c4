import { join } from "node:path";
import type { KeyedLock } from "@caisson/linux";
import { mountVolume, type StorageDriver } from "@caisson/storage";
import type { NodeLogger } from "../node-logger.ts";
import { type Mounted, SharedMounts } from "./shared-mounts.ts";

/** How long the root of a snapshot stays mounted after its last sandbox, so that the next one starts without mounting it. */
const IDLE_MS = 30_000;

export interface MountsOptions {
  readonly storage: StorageDriver;
  /** Where to mount. */
  readonly directory: string;
  readonly locks: KeyedLock;
  readonly logger: NodeLogger;
}

/**
 * Snapshots and base images that sandboxes run from: each attached and mounted read-only once per host, however many sandboxes share it,
 * so that they share its page cache too.
 */
export class RootMounts {
  readonly #directory: string;
  readonly #locks: KeyedLock;
  readonly #logger: NodeLogger;
  readonly #mounts: SharedMounts;
  readonly #idleTimers = new Map<string, NodeJS.Timeout>();

  constructor({ storage, directory, locks, logger }: MountsOptions) {
    this.#directory = directory;
    this.#locks = locks;
    this.#logger = logger;
    this.#mounts = new SharedMounts(storage, logger);
  }

  /** The mounted directory of the image. Needs a `release` by the same holder, also after a failure. */
  acquire(imageId: string, holder: string): Promise<string> {
    return this.#locks.run(imageId, async () => {
      this.#keep(imageId);
      const existing = this.#mounts.get(imageId);
      if (existing?.isMounted !== true) return (await this.#mount(imageId, holder)).path;
      existing.holders.add(holder);
      return existing.path;
    });
  }

  /** Gives up what `acquire` gave. Again, or without one, is success. */
  async release(imageId: string, holder: string): Promise<void> {
    const mounted = this.#mounts.get(imageId);
    if (mounted === undefined) return;
    mounted.holders.delete(holder);
    if (mounted.holders.size > 0) return;
    this.#keep(imageId);
    const evict = () =>
      void this.evict(imageId).catch((error: unknown) =>
        this.#logger.error({ err: error, imageId }, "cannot unmount a root that nobody uses; its next use tries again"),
      );
    this.#idleTimers.set(imageId, setTimeout(evict, IDLE_MS).unref());
  }

  /** Unmounts an image that no sandbox uses. Returns false while one does. */
  evict(imageId: string): Promise<boolean> {
    return this.#locks.run(imageId, async () => {
      if ((this.#mounts.get(imageId)?.holders.size ?? 0) > 0) return false;
      this.#keep(imageId);
      await this.#mounts.giveBack(imageId);
      return true;
    });
  }

  async close(): Promise<void> {
    for (const imageId of this.#mounts.ids()) await this.evict(imageId);
  }

  #mount(imageId: string, holder: string): Promise<Mounted> {
    const path = join(this.#directory, imageId);
    return this.#mounts.mount(imageId, holder, {
      path,
      isReadOnly: true,
      mount: (device) => mountVolume({ device: device.path, target: path, kind: "root", isReadOnly: true }),
    });
  }

  /** Stops the clock of an unused image. */
  #keep(imageId: string): void {
    clearTimeout(this.#idleTimers.get(imageId));
    this.#idleTimers.delete(imageId);
  }
}
