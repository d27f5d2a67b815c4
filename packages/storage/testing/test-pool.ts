import type { StorageDriver } from "../src/driver.ts";

/** A pool made for one run of the suite, about 1 GiB large. */
export interface TestPool {
  /** Opens the driver over the pool; what an earlier one left is there. The suite closes it before it opens the next. */
  open(): Promise<StorageDriver>;
  /** Names what the pool holds besides whole images, in the driver's own terms: nothing, after any operation. */
  findDebris(): Promise<readonly string[]>;
  /** A command that opens the same pool in a process of its own and runs one operation; see `conformance-crash.ts`. */
  readonly crashCommand: readonly string[];
  /** Loses everything that is not on stable storage, as a power cut does, and closes the driver. Null: what is stable is the cluster's affair. */
  readonly cutPower: ((driver: StorageDriver) => Promise<void>) | null;
  /** Removes the pool. Fails when anything of it is left on the host. */
  dispose(): Promise<void>;
}
