import { type Capacity, needsRoom } from "@caisson/node";
import type { AppContext } from "../context.ts";
import { makeRoom } from "../disks/room.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";
import { recordPoolEvent } from "./pool-event.ts";

const THRESHOLDS_PERCENT: readonly number[] = [95, 90, 80];
/** A pool whose use goes up and down around a threshold tells of it once. */
const HYSTERESIS_PERCENT = 2;

/** How much of the pool is used, in percent of what volumes and snapshots can ever have: 100, nothing more can be stored. */
export function usedPercent({ totalBytes, availableBytes, headroomBytes }: Capacity): number {
  const usableBytes = totalBytes - headroomBytes;
  return usableBytes <= 0 ? 100 : (100 * (usableBytes - availableBytes)) / usableBytes;
}

/** The highest threshold that is reached, 0 for none. One that was told of before counts until the use is clearly below it. */
export function reachedThreshold(percent: number, toldPercent: number): number {
  const isReached = (threshold: number) =>
    percent >= (threshold <= toldPercent ? threshold - HYSTERESIS_PERCENT : threshold);
  return THRESHOLDS_PERCENT.find(isReached) ?? 0;
}

/** Tells of every pool of a node that passes a threshold, in the log and in the administrators' trail, and makes room where that is needed. */
export class PoolWatch implements Disposable {
  readonly #app: AppContext;
  readonly #connected: ConnectedNode;
  readonly #toldPercent = new Map<string, number>();

  constructor(app: AppContext, connected: ConnectedNode) {
    this.#app = app;
    this.#connected = connected;
    // A scrape before the first look finds the series.
    for (const region of connected.regions.keys()) this.#setThreshold(region, 0);
  }

  async look(): Promise<void> {
    const { node, regions } = this.#connected;
    for (const region of regions.keys()) {
      const capacity = await node.poolCapacity(region);
      // Of disks that fail nothing is known; that is told where they do.
      if (capacity.disks.every(({ problem }) => problem !== null)) continue;
      await this.#tell(region, region, capacity);
      const disks = capacity.disks.length > 1 ? capacity.disks.filter(({ problem }) => problem === null) : [];
      for (const disk of disks) await this.#tell(region, disk.directory, disk);
      if (needsRoom(capacity)) await makeRoom(this.#app, this.#connected, region);
    }
  }

  /** Nothing is said of the pools any more, as of a node that cannot be reached. */
  [Symbol.dispose](): void {
    const node = this.#connected.owner.nodeId;
    for (const region of this.#connected.regions.keys()) this.#app.metrics.poolThreshold.remove({ node, region });
  }

  /** `part`: the name of the region for the whole pool, or the directory of one of its disks. */
  async #tell(region: string, part: string, capacity: Capacity): Promise<void> {
    const percent = usedPercent(capacity);
    const told = this.#toldPercent.get(part) ?? 0;
    const reached = reachedThreshold(percent, told);
    if (reached > told) {
      const { totalBytes, availableBytes, freeBytes, headroomBytes } = capacity;
      const what = part === region ? {} : { directory: part };
      const sizes = { totalBytes, availableBytes, freeBytes, headroomBytes };
      const { nodeId } = this.#connected.owner;
      const detail = { nodeId, ...what, threshold: reached, percent: Math.round(percent), ...sizes };
      const name = part === region ? "the pool" : `the disk ${part} of the pool`;
      this.#app.logger.warn(
        { region, ...detail },
        `${name} is ${reached} % full; "caisson df" shows what holds the space`,
      );
      await recordPoolEvent(this.#app.store, region, "pool-threshold", "STORAGE_FULL", detail);
    }
    this.#toldPercent.set(part, reached);
    if (part === region) this.#setThreshold(region, reached);
  }

  #setThreshold(region: string, percent: number): void {
    this.#app.metrics.poolThreshold.set({ node: this.#connected.owner.nodeId, region }, percent);
  }
}
