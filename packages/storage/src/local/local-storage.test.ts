import { describeStorageConformance } from "../conformance.ts";
import { makeLocalTestPool } from "./test-pool.ts";

describeStorageConformance("local pool, XFS in a pool file", () => makeLocalTestPool("xfs"));
describeStorageConformance("local pool, btrfs directory", () => makeLocalTestPool("btrfs"));
