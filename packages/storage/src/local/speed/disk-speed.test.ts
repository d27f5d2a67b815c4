import assert from "node:assert/strict";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import { MIB } from "../../../testing/device-io.ts";
import { TestDisk } from "../../../testing/local-test-pool.ts";
import { measureDiskSpeed } from "./disk-speed.ts";

suite("the speed of a disk", () => {
  for (const [type, hasPoolFile] of [
    ["ext4", true],
    ["btrfs", false],
  ] as const) {
    test(`on ${type} it is measured with and without the layers of a volume, and nothing stays`, async () => {
      const disk = await TestDisk.create(type, 2048 * MIB);
      try {
        // What a measurement that was killed has left.
        await mkdir(join(disk.mountPath, ".caisson-speed/pool"), { recursive: true });
        await writeFile(join(disk.mountPath, ".caisson-speed/pool/pool.xfs"), "cut off");
        const before = (await readdir(disk.mountPath)).filter((name) => name !== ".caisson-speed");
        const speed = await measureDiskSpeed(disk.mountPath);
        assert.equal(speed.hasPoolFile, hasPoolFile);
        for (const figure of [...Object.values(speed.disk), ...Object.values(speed.volume)]) assert.ok(figure > 0);
        assert.deepEqual(await readdir(disk.mountPath), before);
      } finally {
        await disk.dispose();
      }
    });
  }

  test("a disk that is too full for it is left alone, with the reason", async () => {
    const disk = await TestDisk.create("ext4", 400 * MIB);
    try {
      await assert.rejects(measureDiskSpeed(disk.mountPath), { code: "STORAGE_FULL", message: /needs .* are free/ });
    } finally {
      await disk.dispose();
    }
  });
});
