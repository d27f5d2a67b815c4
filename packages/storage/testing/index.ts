export { describeStorageConformance } from "./conformance.ts";
export { makeLocalTestPool, TestDisk } from "./local-test-pool.ts";
export type { TestPool } from "./test-pool.ts";
