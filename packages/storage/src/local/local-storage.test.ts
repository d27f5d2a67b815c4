import { describeStorageConformance } from "../../testing/conformance.ts";
import { makeLocalTestPool } from "../../testing/local-test-pool.ts";

describeStorageConformance("local pool, XFS in a pool file", () => makeLocalTestPool("xfs"));
describeStorageConformance("local pool, btrfs directory", () => makeLocalTestPool("btrfs"));
