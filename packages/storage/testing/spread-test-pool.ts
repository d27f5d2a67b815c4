import assert from "node:assert/strict";
import { join } from "node:path";
import { SpreadStorage, type SpreadStorageOptions } from "../src/spread/spread-storage.ts";
import { crashCommand } from "./crash-command.ts";
import { MIB } from "./device-io.ts";
import { findDebris, TestDisk } from "./local-test-pool.ts";
import type { TestPool } from "./test-pool.ts";

/** A pool on two disks, with most room on the further one, so that what has no base lies there. */
export async function makeSpreadTestPool(): Promise<TestPool> {
  const [first, further] = [await TestDisk.create("ext4", 900 * MIB), await TestDisk.create("ext4", 1600 * MIB)];
  const [directory, furtherDirectory] = [join(first.mountPath, "pool"), join(further.mountPath, "ord")];
  const options: Omit<SpreadStorageOptions, "onProblem"> = {
    directory,
    reserveBytes: 64 * MIB,
    poolSizeBytes: 640 * MIB,
    disks: [{ directory: furtherDirectory, poolSizeBytes: 1024 * MIB }],
  };
  const images = [join(directory, "mount"), join(furtherDirectory, "mount")];
  return {
    open: () => SpreadStorage.open({ ...options, onProblem: (_directory, problem) => assert.fail(problem) }),
    findDebris: () => findDebris(images),
    crashCommand: crashCommand({ kind: "spread", options, images }),
    cutPower: (driver) => first.cutPower(() => further.cutPower(() => driver.close())),
    async dispose() {
      await first.dispose();
      await further.dispose();
    },
  };
}
