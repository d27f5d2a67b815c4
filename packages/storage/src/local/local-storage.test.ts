import { describeStorageConformance } from "../../testing/conformance.ts";
import { makeLocalTestPool } from "../../testing/local-test-pool.ts";
import { LOCAL_CAPABILITIES } from "./local-storage.ts";

const subject = { capabilities: LOCAL_CAPABILITIES, hasPowerCut: true, pointStride: 3 };

describeStorageConformance("local pool, XFS in a pool file", { ...subject, makePool: () => makeLocalTestPool("xfs") });
describeStorageConformance("local pool, btrfs directory", { ...subject, makePool: () => makeLocalTestPool("btrfs") });
