import assert from "node:assert/strict";
import { open } from "node:fs/promises";
import { suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { discardDevice, MIB, patternOf } from "../../testing/device-io.ts";
import { makeLocalTestPool } from "../../testing/local-test-pool.ts";
import type { ImageId, ImagePart, StorageDriver } from "../driver.ts";

const SIZE_BYTES = 64 * MIB;
const BLOCK_BYTES = 4096;

for (const type of ["xfs", "btrfs"] as const)
  suite(`sealed images are compared by their extent maps: ${type}`, { timeout: testTimeoutMs(120_000) }, () => {
    test("outside of what is told they are the same, after random writes, holes and discards, and little is told", async () => {
      const pool = await makeLocalTestPool(type);
      const driver = await pool.open();
      const made: ImageId[] = [];
      try {
        await driver.createImage("vol_a", { sizeBytes: SIZE_BYTES });
        made.push("vol_a");
        await change(driver, "vol_a", 1, 40);
        let base: ImageId | null = null;
        for (let round = 2; round < 5; round += 1) {
          const id = `snp_${round}`;
          await driver.sealImage("vol_a", id);
          made.push(id);
          if (base !== null) {
            const parts: readonly ImagePart[] | null = await driver.compareSealed(id, base);
            assert.ok(parts !== null);
            await assertSameOutside(driver, id, base, parts);
            const toldBytes = parts.reduce((sum, { length }) => sum + length, 0);
            assert.ok(toldBytes > 0 && toldBytes < SIZE_BYTES / 4, `${toldBytes} bytes of ${SIZE_BYTES}`);
            assert.deepEqual(await driver.compareSealed(id, id), [], "an image is the same as itself");
          }
          base = id;
          await change(driver, "vol_a", round, 8);
        }
        await driver.createImage("vol_b", { sizeBytes: 2 * SIZE_BYTES, parent: "snp_4" });
        made.push("vol_b");
        await change(driver, "vol_b", 9, 3);
        await driver.sealImage("vol_b", "snp_b");
        made.push("snp_b");
        const grown = await driver.compareSealed("snp_b", "snp_4");
        assert.ok(grown !== null);
        const last = grown.at(-1);
        assert.ok(last !== undefined && last.offset <= SIZE_BYTES && last.offset + last.length === 2 * SIZE_BYTES);
        await assertSameOutside(driver, "snp_b", "snp_4", grown);
      } finally {
        for (const id of made) await driver.deleteImage(id);
        await driver.close();
        await pool.dispose();
      }
    });

    test("with one that is gone, not sealed, or a copy that shares nothing, nothing is taken for the same", async () => {
      const pool = await makeLocalTestPool(type);
      const driver = await pool.open();
      try {
        await driver.createImage("vol_a", { sizeBytes: SIZE_BYTES });
        await change(driver, "vol_a", 1, 20);
        await driver.sealImage("vol_a", "snp_a");
        assert.equal(await driver.compareSealed("snp_a", "snp_absent"), null);
        assert.equal(await driver.compareSealed("snp_a", "vol_a"), null);
        await driver.createSealed("snp_copy", async (image) => {
          await image.setSize(SIZE_BYTES);
          await using source = await driver.openSealed("snp_a");
          for await (const { offset, length } of source.data()) {
            const bytes = Buffer.alloc(length);
            await source.read(offset, bytes);
            await image.write(offset, bytes);
          }
        });
        const parts = await driver.compareSealed("snp_copy", "snp_a");
        await using source = await driver.openSealed("snp_a");
        const dataBytes = (await Array.fromAsync(source.data())).reduce((sum, { length }) => sum + length, 0);
        assert.ok(parts === null || parts.reduce((sum, { length }) => sum + length, 0) >= dataBytes);
      } finally {
        for (const id of ["vol_a", "snp_a", "snp_copy"]) await driver.deleteImage(id);
        await driver.close();
        await pool.dispose();
      }
    });
  });

/** Writes and discards blocks here and there; the same seed gives the same places. */
async function change(driver: StorageDriver, id: ImageId, seed: number, count: number): Promise<void> {
  const device = await driver.attach(id, "rw");
  try {
    await using file = await open(device.path, "r+");
    let state = seed * 7919;
    const next = (below: number) => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    for (let index = 0; index < count; index += 1) {
      const lengthBytes = BLOCK_BYTES * (1 + next(32));
      const offset = BLOCK_BYTES * next(SIZE_BYTES / BLOCK_BYTES - 32);
      if (index % 4 === 3) await discardDevice(device.path, offset, lengthBytes);
      else await file.write(patternOf(`${seed} ${index}`, lengthBytes), 0, lengthBytes, offset);
    }
    await file.sync();
  } finally {
    await driver.detach(device);
  }
}

async function assertSameOutside(
  driver: StorageDriver,
  id: ImageId,
  base: ImageId,
  parts: readonly ImagePart[],
): Promise<void> {
  const [own, other] = await Promise.all([readWhole(driver, id), readWhole(driver, base)]);
  const length = Math.min(own.length, other.length);
  let at = 0;
  for (const part of [...parts, { offset: length, length: 0 }]) {
    const end = Math.min(length, part.offset);
    if (end > at) assert.ok(own.subarray(at, end).equals(other.subarray(at, end)), `${at} to ${end}`);
    at = part.offset + part.length;
  }
}

async function readWhole(driver: StorageDriver, id: ImageId): Promise<Buffer> {
  await using image = await driver.openSealed(id);
  const bytes = Buffer.alloc(image.sizeBytes);
  await image.read(0, bytes);
  return bytes;
}
