export { describeStorageConformance, type TestPool } from "./conformance.ts";
export { makeLocalTestPool, TestDisk } from "./test-pool.ts";
