import { CaissonError, formatSize } from "@caisson/model";
import type { Capacity } from "../driver.ts";
import type { CephConnection } from "./ceph-connection.ts";
import { FULL_CEPH_ADVICE } from "./ceph-problem.ts";
import { type CephPool, poolName } from "./rbd-client.ts";

export interface SpaceOptions extends CephPool {
  readonly reserveBytes?: number;
  readonly headroomBytes?: number;
}

const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** A new image needs room for its file system; with less than this available none is made. */
const MINIMUM_AVAILABLE_BYTES = 32 * MIB;
/** What an ephemeral image needs of the headroom to be of any use. */
const MINIMUM_FREE_BYTES = 8 * MIB;
/** The cluster's figures are so old at most: its OSDs report every five seconds, and its manager passes that on every five. */
const REPORT_MS = 15_000;
const OLD_MS = 1000;

interface Written {
  readonly atMs: number;
  readonly bytes: number;
}

/** How much room the pool has. The cluster tells it late, so what was filled meanwhile is subtracted here. */
export class CephSpace {
  readonly #connection: CephConnection;
  readonly #options: SpaceOptions;
  #written: Written[] = [];
  /** What fillers may write before they look again. */
  #claimedBytes = 0;
  #last: Capacity = { totalBytes: 0, availableBytes: 0, freeBytes: 0, headroomBytes: 0 };
  #readAtMs = Number.NEGATIVE_INFINITY;
  #reading: Promise<Capacity> | null = null;

  constructor(connection: CephConnection, options: SpaceOptions) {
    this.#connection = connection;
    this.#options = options;
  }

  /** Joins a look that is under way: a cluster that is silent is asked once. */
  read(): Promise<Capacity> {
    this.#reading ??= this.#read().finally(() => (this.#reading = null));
    return this.#reading;
  }

  async #read(): Promise<Capacity> {
    this.#readAtMs = performance.now();
    const { storedBytes, freeBytes: left, quotaBytes } = await (await this.#connection.client()).space();
    const { reserveBytes = 0 } = this.#options;
    const roomBytes = quotaBytes === null ? left : Math.min(left, quotaBytes - storedBytes);
    const totalBytes = Math.max(0, storedBytes + roomBytes - reserveBytes);
    const headroomBytes =
      this.#options.headroomBytes ?? Math.min(GIB, Math.max(64 * MIB, Math.floor(totalBytes * 0.03)));
    const freeBytes = Math.max(0, roomBytes - reserveBytes - this.#unreportedBytes());
    this.#last = { totalBytes, freeBytes, headroomBytes, availableBytes: Math.max(0, freeBytes - headroomBytes) };
    return this.#last;
  }

  /** As of the last look; one that is older than a second has the next look begin. */
  last(): Capacity {
    // What it fails with, the calls that need the cluster tell.
    if (performance.now() - this.#readAtMs > OLD_MS) this.read().catch(() => undefined);
    return this.#last;
  }

  /** Throws `STORAGE_FULL` where there is no room for another image. */
  async require(action: string, { isEphemeral = false }: { readonly isEphemeral?: boolean }): Promise<void> {
    const { freeBytes, headroomBytes } = await this.read();
    const leftBytes = (isEphemeral ? freeBytes : freeBytes - headroomBytes) - this.#claimedBytes;
    if (leftBytes >= (isEphemeral ? MINIMUM_FREE_BYTES : MINIMUM_AVAILABLE_BYTES)) return;
    const beside = isEphemeral ? "" : `, beside ${formatSize(headroomBytes)} of headroom`;
    const message = `Cannot ${action}: the Ceph pool ${poolName(this.#options)} has ${formatSize(Math.max(0, leftBytes))} left${beside}. ${FULL_CEPH_ADVICE}`;
    throw new CaissonError("STORAGE_FULL", message);
  }

  /** For one that writes in strides: each is claimed before it is written. */
  filler(action: string): Filler {
    let claimedBytes = 0;
    const own = new Set<Written>();
    const release = (): void => {
      this.#claimedBytes -= claimedBytes;
      if (claimedBytes > 0) {
        const written = { atMs: performance.now(), bytes: claimedBytes };
        own.add(written);
        this.#written.push(written);
      }
      claimedBytes = 0;
    };
    return {
      claim: async (bytes) => {
        release();
        await this.require(action, {});
        claimedBytes = bytes;
        this.#claimedBytes += bytes;
      },
      end: release,
      forget: () => {
        this.#written = this.#written.filter((written) => !own.has(written));
      },
    };
  }

  #unreportedBytes(): number {
    const oldMs = performance.now() - REPORT_MS;
    this.#written = this.#written.filter(({ atMs }) => atMs > oldMs);
    return this.#written.reduce((sum, { bytes }) => sum + bytes, 0);
  }
}

export interface Filler {
  /** Room for so much more, when what was claimed before is written. `STORAGE_FULL` where there is none. */
  claim(bytes: number): Promise<void>;
  end(): void;
  /** What was written is removed again. */
  forget(): void;
}
