import assert from "node:assert/strict";
import { join } from "node:path";
import type { DiskClass } from "@caisson/model";
import { ClassStorage } from "../src/classes/class-storage.ts";
import type { ImageId } from "../src/driver.ts";
import { LocalStorage, type LocalStorageOptions } from "../src/local/local-storage.ts";
import { crashCommand } from "./crash-command.ts";
import { MIB } from "./device-io.ts";
import { findDebris, TestDisk } from "./local-test-pool.ts";
import type { TestPool } from "./test-pool.ts";

/** Two local pools, one of which stands for the replicated one. */
export interface TwoClasses {
  readonly local: LocalStorageOptions;
  readonly replicated: LocalStorageOptions;
}

/** In the suite one image is of another class than what it is made from, so that it is a copy, and one fills the local pool; all others lie in the replicated one. */
function classOf(id: ImageId): DiskClass {
  return ["vol_new", "vol_hog0"].includes(id) ? "local" : "replicated";
}

export async function openTwoClasses(
  { local, replicated }: TwoClasses,
  onProblem: (directory: string, problem: string) => void,
): Promise<ClassStorage> {
  const [here, there] = [await LocalStorage.open(local), await LocalStorage.open(replicated)];
  // What they do in the background after a start is done.
  await Promise.all([here.sparesMade(), there.sparesMade()]);
  const pool = { name: replicated.directory, open: async () => there };
  return ClassStorage.open({ local: here, replicated: pool, onProblem, classOf });
}

/** A pool of two classes, each on a disk of its own. */
export async function makeClassTestPool(): Promise<TestPool> {
  const [near, far] = [await TestDisk.create("ext4", 900 * MIB), await TestDisk.create("ext4", 1600 * MIB)];
  const optionsOn = (disk: TestDisk, poolSizeBytes: number): LocalStorageOptions => ({
    directory: join(disk.mountPath, "pool"),
    reserveBytes: 64 * MIB,
    poolSizeBytes,
  });
  const options: TwoClasses = { local: optionsOn(near, 640 * MIB), replicated: optionsOn(far, 1024 * MIB) };
  const images = [options.local, options.replicated].map(({ directory }) => join(directory, "mount"));
  return {
    open: () => openTwoClasses(options, (_directory, problem) => assert.fail(problem)),
    findDebris: () => findDebris(images),
    crashCommand: crashCommand({ kind: "classes", options, images }),
    cutPower: (driver) => near.cutPower(() => far.cutPower(() => driver.close())),
    async dispose() {
      await near.dispose();
      await far.dispose();
    },
  };
}
