export { hasReflink } from "../src/local/reflink.ts";
export { TestCeph, type TestCephOptions } from "./ceph/test-ceph.ts";
export { describeStorageConformance } from "./conformance.ts";
export { makeLocalTestPool, TestDisk } from "./local-test-pool.ts";
export { scatterFile } from "./scatter.ts";
export { readLastRecord, StampedWriter } from "./stamped-records.ts";
export type { TestPool } from "./test-pool.ts";
