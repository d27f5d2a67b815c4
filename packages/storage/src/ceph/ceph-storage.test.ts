import { makeCephTestPool } from "../../testing/ceph/ceph-test-pool.ts";
import { describeStorageConformance } from "../../testing/conformance.ts";
import { CEPH_CAPABILITIES } from "./ceph-storage.ts";

describeStorageConformance("Ceph", {
  capabilities: CEPH_CAPABILITIES,
  makePool: makeCephTestPool,
  hasPowerCut: false,
  pointStride: 7,
});
