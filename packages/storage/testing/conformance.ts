import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { CaissonError } from "@caisson/model";
import type {
  AttachMode,
  BlockDevice,
  BlockImage,
  ImageId,
  OpenImage,
  StorageCapabilities,
  StorageDriver,
} from "../src/driver.ts";
import { describeCrashConformance } from "./conformance-crash.ts";
import { discardDevice, hashDevice, MIB, patternOf, readDevice, writeDevice } from "./device-io.ts";
import type { TestPool } from "./test-pool.ts";

export interface ConformanceSubject {
  /** Of the driver: promises that it does not make are not checked. */
  readonly capabilities: StorageCapabilities;
  readonly makePool: () => Promise<TestPool>;
  /** Whether the pool can be cut off from power. */
  readonly hasPowerCut: boolean;
  /** Every so many fault points are tried: fewer where each try takes long. */
  readonly pointStride: number;
}

/** The promises of `StorageDriver`, checked on one driver. */
export function describeStorageConformance(name: string, subject: ConformanceSubject): void {
  const { capabilities, makePool, hasPowerCut, pointStride } = subject;
  const { unitBytes } = capabilities;
  describe(`storage conformance: ${name}`, () => {
    let pool: TestPool;
    let driver: StorageDriver;

    before(async () => {
      pool = await makePool();
      driver = await pool.open();
    });

    after(async () => {
      const left = await collect(driver.listImages());
      await driver.close();
      await pool.dispose();
      assert.deepEqual(left, [], "the tests delete what they make");
    });

    const withDevice = async <T>(
      id: ImageId,
      mode: AttachMode,
      run: (device: BlockDevice) => Promise<T>,
    ): Promise<T> => {
      const device = await driver.attach(id, mode);
      try {
        return await run(device);
      } finally {
        await driver.detach(device);
      }
    };
    const write = (id: ImageId, seed: string, sizeBytes: number, offset = 0): Promise<void> =>
      withDevice(id, "rw", ({ path }) => writeDevice(path, patternOf(seed, sizeBytes), offset));
    const hash = (id: ImageId): Promise<string> => withDevice(id, "ro", ({ path }) => hashDevice(path));
    const remove = async (...ids: readonly ImageId[]): Promise<void> => {
      for (const id of ids) await driver.deleteImage(id);
      assert.deepEqual(await pool.findDebris(), []);
    };
    const reopen = async (): Promise<void> => {
      await driver.close();
      driver = await pool.open();
    };

    test("the driver can do what it is tested for", () => {
      assert.deepEqual(driver.capabilities, capabilities);
    });

    test("a blank image has exactly its size, all zeroes, and takes no space", async () => {
      const sizeBytes = 30_000_128;
      await driver.createImage("vol_blank", { sizeBytes });
      assert.deepEqual(await driver.getImage("vol_blank"), { id: "vol_blank", sizeBytes, isSealed: false });
      assert.deepEqual(await driver.usage("vol_blank"), {
        allocatedBytes: 0,
        flattenedBytes: 0,
        exclusiveBytes: 0,
      });
      const contents = await withDevice("vol_blank", "ro", ({ path }) => readDevice(path));
      // Devices count in sectors; a remainder of the image that fills none is not on the device.
      assert.equal(contents.length, sizeBytes - (sizeBytes % 512));
      assert.ok(contents.every((byte) => byte === 0));
      await remove("vol_blank");
    });

    test("an image begins with the content that it is given, and gives it again without what is zero", async () => {
      const [first, second] = [patternOf("first", 2 * 4096), patternOf("second", 4096)];
      const content = [
        { offset: 4096, bytes: first },
        { offset: 12_288, bytes: second },
        { offset: 4 * MIB, bytes: second.subarray(0, 100) },
        { offset: 6 * MIB, bytes: Buffer.alloc(4096) },
      ];
      await driver.createImage("vol_a", { sizeBytes: 8 * MIB, pieces: content });
      await reopen();
      const expected = Buffer.alloc(8 * MIB);
      for (const { offset, bytes } of content) expected.set(bytes, offset);
      assert.ok((await withDevice("vol_a", "ro", ({ path }) => readDevice(path))).equals(expected));
      const found = await driver.readPieces("vol_a");
      assert.deepEqual(
        found.map(({ offset, bytes }) => [offset, bytes.length]),
        [
          [4096, 12_288],
          [4 * MIB, 4096],
        ],
      );
      await driver.createImage("vol_b", { sizeBytes: 8 * MIB, pieces: found });
      assert.equal(await hash("vol_b"), await hash("vol_a"));
      await withDevice("vol_a", "rw", () => assert.rejects(driver.readPieces("vol_a"), { code: "VOLUME_IN_USE" }));
      await remove("vol_a", "vol_b");
    });

    test("bytes of an image can be read, attached or not, fewer at its end; an image that is not there is an error", async () => {
      await driver.createImage("vol_a", { sizeBytes: MIB });
      await write("vol_a", "read", MIB);
      const expected = patternOf("read", MIB);
      assert.deepEqual(await driver.read("vol_a", 1000, 5000), expected.subarray(1000, 6000));
      await withDevice("vol_a", "rw", async ({ path }) => {
        await writeDevice(path, patternOf("again", 4096), 0);
        assert.deepEqual(await driver.read("vol_a", 0, 4096), patternOf("again", 4096));
      });
      assert.deepEqual(await driver.read("vol_a", MIB - 10, 4096), expected.subarray(MIB - 10));
      await remove("vol_a");
      await assert.rejects(driver.read("vol_a", 0, 1));
    });

    const fillSealed = (id: ImageId, parts: readonly (readonly [number, Buffer])[], sizeBytes: number): Promise<void> =>
      driver.createSealed(id, async (image) => {
        await image.setSize(sizeBytes);
        for (const [offset, bytes] of parts) await image.write(offset, bytes);
      });
    const readAll = async (image: OpenImage): Promise<{ contents: Buffer; dataBytes: number }> => {
      const contents = Buffer.alloc(image.sizeBytes);
      let dataBytes = 0;
      for await (const { offset, length } of image.data()) {
        const end = Math.min(offset + length, image.sizeBytes);
        dataBytes += length;
        await image.read(offset, contents.subarray(offset, end));
      }
      return { contents, dataBytes };
    };

    test("a sealed image that is filled is there as a whole, takes the space of what was written, and is read without its holes", async () => {
      const sizeBytes = 200 * MIB;
      const parts = [
        [0, patternOf("begin", 8192)],
        [100 * MIB, patternOf("middle", MIB)],
        [200 * MIB - 4096, patternOf("end", 4096)],
      ] as const;
      await fillSealed("snp_a", parts, sizeBytes);
      assert.deepEqual(await driver.getImage("snp_a"), { id: "snp_a", sizeBytes, isSealed: true });
      await fillSealed("snp_a", [], 5);
      await reopen();
      const expected = Buffer.alloc(sizeBytes);
      for (const [offset, bytes] of parts) expected.set(bytes, offset);
      await using image = await driver.openSealed("snp_a");
      const { contents, dataBytes } = await readAll(image);
      assert.ok(contents.equals(expected));
      assert.ok(dataBytes >= MIB + 8192 + 4096 && dataBytes < 2 * MIB + unitBytes, `${dataBytes} bytes were read`);
      const usage = await driver.usage("snp_a");
      assert.ok(usage !== null && usage.flattenedBytes < 2 * MIB + unitBytes);
      await driver.createImage("vol_a", { sizeBytes, parent: "snp_a" });
      assert.ok((await withDevice("vol_a", "ro", ({ path }) => readDevice(path))).equals(expected));
      await remove("vol_a", "snp_a");
    });

    test("a sealed image whose filling fails leaves nothing", async () => {
      const failed = driver.createSealed("snp_a", async (image) => {
        await image.setSize(8 * MIB);
        await image.write(0, patternOf("lost", MIB));
        throw new Error("cut off");
      });
      await assert.rejects(failed, /cut off/);
      assert.equal(await driver.getImage("snp_a"), null);
      assert.deepEqual(await pool.findDebris(), []);
    });

    test("an image that is deleted while it is read fails to be read, and gives no zeros for its data", async () => {
      const contents = patternOf("deleted", 8 * MIB);
      await fillSealed("snp_a", [[0, contents]], 8 * MIB);
      await using image = await driver.openSealed("snp_a");
      const first = Buffer.alloc(MIB);
      await image.read(0, first);
      assert.ok(first.equals(contents.subarray(0, MIB)));
      await remove("snp_a");
      await assert.rejects(image.read(MIB, first), { code: "SNAPSHOT_NOT_FOUND" });
      await assert.rejects(readAll(image), { code: "SNAPSHOT_NOT_FOUND" });
      await assert.rejects(driver.openSealed("snp_a"));
      await driver.createImage("vol_a", { sizeBytes: MIB });
      await assert.rejects(driver.openSealed("vol_a"), /not sealed/);
      await remove("vol_a");
    });

    test("creating an image again is success, and with another size an error that changes nothing", async () => {
      await driver.createImage("vol_a", { sizeBytes: 8 * MIB });
      await write("vol_a", "kept", MIB);
      await driver.createImage("vol_a", { sizeBytes: 8 * MIB });
      await assert.rejects(driver.createImage("vol_a", { sizeBytes: 9 * MIB }), /vol_a.*8388608 bytes/);
      const contents = await withDevice("vol_a", "ro", ({ path }) => readDevice(path));
      assert.deepEqual(contents.subarray(0, MIB), patternOf("kept", MIB));
      await remove("vol_a");
    });

    test("an image is deleted once and for all, and deleting it again is success", async () => {
      await driver.createImage("vol_a", { sizeBytes: 8 * MIB });
      await remove("vol_a", "vol_a");
      assert.equal(await driver.getImage("vol_a"), null);
      await assert.rejects(driver.attach("vol_a", "ro"), /there is no image vol_a/);
      await assert.rejects(driver.usage("vol_a"), /there is no image vol_a/);
    });

    test("contents, sizes and seals are there after the driver was closed and opened again", async () => {
      await driver.createImage("vol_a", { sizeBytes: 16 * MIB });
      await write("vol_a", "lasting", 4 * MIB, 2 * MIB);
      await driver.sealImage("vol_a", "snp_a");
      const hashes = [await hash("vol_a"), await hash("snp_a")];
      await reopen();
      assert.deepEqual([await hash("vol_a"), await hash("snp_a")], hashes);
      const images = await collect(driver.listImages());
      const byId = (a: BlockImage, b: BlockImage): number => (a.id < b.id ? -1 : 1);
      assert.deepEqual(images.toSorted(byId), [
        { id: "snp_a", sizeBytes: 16 * MIB, isSealed: true },
        { id: "vol_a", sizeBytes: 16 * MIB, isSealed: false },
      ]);
      await remove("vol_a", "snp_a");
    });

    test("a clone has its parent's contents, zeroes beyond them, and from then on a life of its own", async () => {
      await driver.createImage("vol_a", { sizeBytes: 8 * MIB });
      await write("vol_a", "parent", 8 * MIB);
      await driver.sealImage("vol_a", "snp_a");
      await driver.createImage("vol_b", { sizeBytes: 12 * MIB, parent: "snp_a" });
      const expected = Buffer.concat([patternOf("parent", 8 * MIB), Buffer.alloc(4 * MIB)]);
      assert.deepEqual(await withDevice("vol_b", "ro", ({ path }) => readDevice(path)), expected);
      const parentHash = await hash("snp_a");
      await write("vol_b", "child", MIB, 3 * MIB);
      await write("vol_a", "source", MIB);
      assert.equal(await hash("snp_a"), parentHash);
      const changed = await withDevice("vol_b", "ro", ({ path }) => readDevice(path));
      assert.deepEqual(changed.subarray(0, MIB), patternOf("parent", 8 * MIB).subarray(0, MIB));
      assert.deepEqual(changed.subarray(3 * MIB, 4 * MIB), patternOf("child", MIB));
      await remove("snp_a", "vol_a");
      assert.deepEqual(await withDevice("vol_b", "ro", ({ path }) => readDevice(path)), changed);
      await remove("vol_b");
    });

    test("a clone needs a sealed parent and at least its size, and the error names that size", async () => {
      await driver.createImage("vol_a", { sizeBytes: 8 * MIB });
      await assert.rejects(driver.createImage("vol_b", { sizeBytes: 8 * MIB, parent: "vol_a" }), /vol_a is not sealed/);
      await assert.rejects(
        driver.createImage("vol_b", { sizeBytes: 8 * MIB, parent: "snp_none" }),
        /no image snp_none/,
      );
      await driver.sealImage("vol_a", "snp_a");
      await assert.rejects(driver.createImage("vol_b", { sizeBytes: 4 * MIB, parent: "snp_a" }), (error) => {
        assert.ok(error instanceof CaissonError);
        assert.equal(error.code, "INVALID_CAPACITY");
        assert.match(error.message, /at least 8388608/);
        return true;
      });
      assert.equal(await driver.getImage("vol_b"), null);
      await remove("vol_a", "snp_a");
    });

    test("a seal is the image of one instant: later writes do not show, and sealing again copies nothing", async () => {
      await driver.createImage("vol_a", { sizeBytes: 8 * MIB });
      await write("vol_a", "before", 2 * MIB);
      let calls = 0;
      const onSealed = async (): Promise<void> => {
        calls += 1;
        assert.equal(await driver.getImage("snp_a"), null, "visible only when it is durable");
      };
      await driver.sealImage("vol_a", "snp_a", { onSealed });
      assert.equal(calls, 1);
      const sealedHash = await hash("snp_a");
      assert.equal(sealedHash, await hash("vol_a"));
      await write("vol_a", "after", MIB);
      await driver.sealImage("vol_a", "snp_a");
      assert.equal(await hash("snp_a"), sealedHash);
      assert.notEqual(await hash("vol_a"), sealedHash);
      await remove("vol_a", "snp_a");
    });

    test("an attached image can be sealed while its device stays in use", async () => {
      await driver.createImage("vol_a", { sizeBytes: 8 * MIB });
      await withDevice("vol_a", "rw", async ({ path }) => {
        await writeDevice(path, patternOf("first", MIB), 0);
        await driver.sealImage("vol_a", "snp_a");
        await writeDevice(path, patternOf("second", MIB), 0);
      });
      const contents = await withDevice("snp_a", "ro", ({ path }) => readDevice(path));
      assert.deepEqual(contents.subarray(0, MIB), patternOf("first", MIB));
      await remove("vol_a", "snp_a");
    });

    test("a seal whose caller fails before it is whole leaves nothing", async () => {
      await driver.createImage("vol_a", { sizeBytes: 8 * MIB });
      const failure = new Error("the deadline passed");
      await assert.rejects(driver.sealImage("vol_a", "snp_a", { onSealed: () => Promise.reject(failure) }), failure);
      assert.equal(await driver.getImage("snp_a"), null);
      await remove("vol_a");
    });

    test("a sealed image cannot be written to, grown or replaced", async () => {
      await driver.createImage("vol_a", { sizeBytes: 8 * MIB });
      await driver.sealImage("vol_a", "snp_a");
      await assert.rejects(driver.attach("snp_a", "rw"), /snp_a: it is sealed/);
      await assert.rejects(driver.growImage("snp_a", 16 * MIB), /it is sealed/);
      await assert.rejects(driver.createImage("snp_a", { sizeBytes: 8 * MIB }), /another image of that id/);
      await withDevice("snp_a", "ro", async ({ path }) => {
        await assert.rejects(writeDevice(path, Buffer.alloc(4096), 0), /EPERM|EACCES|EROFS|EBADF/);
      });
      await remove("vol_a", "snp_a");
    });

    test("growing keeps the contents, adds zeroes, and is refused where it would shrink or the image is in use", async () => {
      await driver.createImage("vol_a", { sizeBytes: 4 * MIB });
      await write("vol_a", "kept", 4 * MIB);
      await driver.growImage("vol_a", 6 * MIB);
      await driver.growImage("vol_a", 6 * MIB);
      const expected = Buffer.concat([patternOf("kept", 4 * MIB), Buffer.alloc(2 * MIB)]);
      assert.deepEqual(await withDevice("vol_a", "ro", ({ path }) => readDevice(path)), expected);
      await assert.rejects(driver.growImage("vol_a", 5 * MIB), { code: "INVALID_CAPACITY" });
      await withDevice("vol_a", "rw", () =>
        assert.rejects(driver.growImage("vol_a", 8 * MIB), { code: "VOLUME_IN_USE" }),
      );
      assert.equal((await driver.getImage("vol_a"))?.sizeBytes, 6 * MIB);
      await remove("vol_a");
    });

    test("one writer or many readers, who share a device; in use, an image is not deleted", async () => {
      await driver.createImage("vol_a", { sizeBytes: 4 * MIB });
      const writer = await driver.attach("vol_a", "rw");
      await assert.rejects(driver.attach("vol_a", "rw"), { code: "VOLUME_IN_USE" });
      await assert.rejects(driver.attach("vol_a", "ro"), { code: "VOLUME_IN_USE" });
      await assert.rejects(driver.deleteImage("vol_a"), { code: "VOLUME_IN_USE" });
      await driver.detach(writer);
      await driver.detach(writer);
      const first = await driver.attach("vol_a", "ro");
      const second = await driver.attach("vol_a", "ro");
      assert.equal(first.path, second.path);
      await driver.detach(first);
      await driver.detach(first);
      await assert.rejects(driver.attach("vol_a", "rw"), { code: "VOLUME_IN_USE" });
      assert.equal((await readDevice(second.path)).length, 4 * MIB, "the second attachment outlives the first");
      await driver.detach(second);
      await write("vol_a", "free again", 4096);
      await remove("vol_a");
    });

    /** The usage in MiB: beyond the base, in all, and what deleting the image would free. */
    const usageMib = async (id: ImageId, base: ImageId | null = null): Promise<readonly number[]> => {
      const usage = await driver.usage(id, { base });
      assert.ok(usage);
      return [usage.allocatedBytes / MIB, usage.flattenedBytes / MIB, usage.exclusiveBytes / MIB];
    };

    test("usage tells what came since the base from what is shared with it, and shrinks when blocks are discarded", async () => {
      await driver.createImage("vol_a", { sizeBytes: 64 * MIB });
      await write("vol_a", "data", 8 * MIB);
      assert.deepEqual(await usageMib("vol_a"), [8, 8, 8]);
      await driver.sealImage("vol_a", "snp_a");
      // A copy of a blank volume holds everything itself; deleting one of the two frees nothing.
      assert.deepEqual(await usageMib("vol_a"), [8, 8, 0]);
      assert.deepEqual(await usageMib("snp_a"), [8, 8, 0]);
      await write("vol_a", "own", 2 * MIB, 16 * MIB);
      assert.deepEqual(await usageMib("vol_a"), [10, 10, 2]);
      await withDevice("vol_a", "rw", ({ path }) => discardDevice(path, 16 * MIB, MIB));
      assert.deepEqual(await usageMib("vol_a"), [9, 9, 1]);

      await driver.createImage("vol_b", { sizeBytes: 64 * MIB, parent: "snp_a" });
      assert.deepEqual(await usageMib("vol_b", "snp_a"), [0, 8, 0]);
      await write("vol_b", "over the base", MIB, 3 * MIB);
      await write("vol_b", "beside the base", 4 * MIB, 32 * MIB);
      assert.deepEqual(await usageMib("vol_b", "snp_a"), [5, 12, 5]);
      await driver.sealImage("vol_b", "snp_b");
      assert.deepEqual(await usageMib("snp_b", "snp_a"), [5, 12, 0]);
      assert.deepEqual(await usageMib("vol_b", "snp_a"), [5, 12, 0]);
      await withDevice("vol_b", "rw", ({ path }) => discardDevice(path, 0, MIB));
      assert.deepEqual(await usageMib("vol_b", "snp_a"), [5, 11, 0]);

      for (const id of ["vol_a", "vol_b", "snp_a"]) await driver.deleteImage(id);
      // File systems may let go of a deleted file's blocks in the background.
      await eventually(async () => (await usageMib("snp_b"))[2] === 12);
      assert.deepEqual(await usageMib("snp_b", "snp_a"), [12, 12, 12], "a base that is gone counts as none");
      await remove("snp_b");
    });

    test("usage is exact for scattered images too, and can be left alone when that would take long", async () => {
      const block = Math.max(64 * 1024, unitBytes);
      const mostParts = 8;
      await driver.createImage("vol_a", { sizeBytes: 64 * MIB });
      await write("vol_a", "base", 32 * MIB);
      await driver.sealImage("vol_a", "snp_a");
      await driver.createImage("vol_b", { sizeBytes: 64 * MIB, parent: "snp_a" });
      const contents = patternOf("scattered", block);
      await withDevice("vol_b", "rw", async ({ path }) => {
        for (let offset = 0; offset < 32 * MIB; offset += 2 * block) await writeDevice(path, contents, offset);
      });
      assert.deepEqual(await usageMib("vol_b", "snp_a"), [16, 32, 16]);
      await driver.sealImage("vol_b", "snp_b");
      assert.deepEqual(await usageMib("snp_b", "snp_a"), [16, 32, 0]);
      assert.equal(await driver.usage("snp_b", { base: "snp_a", maxExtents: mostParts }), null);
      await remove("vol_a", "vol_b", "snp_a", "snp_b");
    });

    test("an ephemeral image works like any other until the driver is closed", async () => {
      await driver.createImage("vol_a", { sizeBytes: 4 * MIB });
      await write("vol_a", "template", 4 * MIB);
      await driver.sealImage("vol_a", "img_template");
      const options = { sizeBytes: 8 * MIB, parent: "img_template", isEphemeral: true };
      await driver.createImage("scr_a", options);
      await driver.createImage("scr_a", options);
      const contents = await withDevice("scr_a", "rw", ({ path }) => readDevice(path));
      assert.deepEqual(contents.subarray(0, 4 * MIB), patternOf("template", 4 * MIB));
      await driver.createImage("scr_b", { sizeBytes: 8 * MIB, isEphemeral: true });
      await remove("scr_b");
      await reopen();
      assert.equal(await driver.getImage("scr_a"), null);
      await remove("vol_a", "img_template");
    });

    test("fifty callers who create the same image at once all succeed with one image", async () => {
      await Promise.all(Array.from({ length: 50 }, () => driver.createImage("vol_a", { sizeBytes: 4 * MIB })));
      const devices = await Promise.allSettled(Array.from({ length: 10 }, () => driver.attach("vol_a", "rw")));
      const attached = devices.flatMap((device) => (device.status === "fulfilled" ? [device.value] : []));
      assert.equal(attached.length, 1);
      for (const device of attached) await driver.detach(device);
      await Promise.all(Array.from({ length: 10 }, () => driver.deleteImage("vol_a")));
      await remove("vol_a");
    });

    test("many images are made, written, sealed, cloned and deleted side by side without mixing", async () => {
      const numbers = Array.from({ length: 12 }, (_, index) => index);
      const contents = await Promise.all(
        numbers.map(async (number) => {
          const [volume, snapshot, clone] = [`vol_${number}`, `snp_${number}`, `vol_c${number}`];
          await driver.createImage(volume, { sizeBytes: 4 * MIB });
          await write(volume, volume, MIB);
          await driver.sealImage(volume, snapshot);
          await driver.deleteImage(volume);
          await driver.createImage(clone, { sizeBytes: 4 * MIB, parent: snapshot });
          const read = await withDevice(clone, "ro", ({ path }) => readDevice(path));
          await driver.deleteImage(clone);
          await driver.deleteImage(snapshot);
          return read.subarray(0, MIB);
        }),
      );
      for (const number of numbers) assert.deepEqual(contents[number], patternOf(`vol_${number}`, MIB));
      assert.deepEqual(await pool.findDebris(), []);
    });

    test("calls on a closed driver are refused, and closing it twice is success", async () => {
      const closed = driver;
      await reopen();
      await assert.rejects(closed.createImage("vol_a", { sizeBytes: MIB }), { code: "SHUTTING_DOWN" });
      await closed.close();
    });

    describeCrashConformance({
      pool: () => pool,
      driver: () => driver,
      reopen,
      setDriver: (next) => (driver = next),
      hasPowerCut,
      pointStride,
    });

    const ifFailsWhenFull = capabilities.failsWhenFull ? test : null;
    ifFailsWhenFull?.(
      "a full pool refuses new images, harms none, and has room again after one is deleted",
      async () => {
        await driver.createImage("vol_kept", { sizeBytes: 8 * MIB });
        await write("vol_kept", "kept", 8 * MIB);
        const { totalBytes, disks } = await driver.capacity();
        const hogs = disks.map((_, index) => `vol_hog${index}`);
        const devices: BlockDevice[] = [];
        // One fills one disk.
        for (const hog of hogs) {
          await driver.createImage(hog, { sizeBytes: totalBytes });
          const device = await driver.attach(hog, "rw");
          devices.push(device);
          await assert.rejects(fill(device.path, totalBytes), /ENOSPC|EIO/);
        }
        await assert.rejects(driver.createImage("vol_more", { sizeBytes: 8 * MIB }), { code: "STORAGE_FULL" });
        assert.equal(await driver.getImage("vol_more"), null);
        for (const device of devices) await driver.detach(device).catch(() => driver.detach(device));
        await remove(...hogs);
        await eventually(async () => (await driver.capacity()).availableBytes > totalBytes / 2);
        await driver.createImage("vol_more", { sizeBytes: 8 * MIB });
        await write("vol_more", "room", 8 * MIB);
        const contents = await withDevice("vol_kept", "ro", ({ path }) => readDevice(path));
        assert.deepEqual(contents, patternOf("kept", 8 * MIB));
        await remove("vol_kept", "vol_more");
      },
    );

    test("filling ends with STORAGE_FULL before the headroom is gone", async () => {
      const before = await driver.capacity();
      const bytes = patternOf("full", 16 * MIB);
      const filled = driver.createSealed("snp_a", async (image) => {
        await image.setSize(8192 * MIB);
        for (let offset = 0; ; offset += bytes.length) await image.write(offset, bytes);
      });
      await assert.rejects(filled, { code: "STORAGE_FULL" });
      assert.equal(await driver.getImage("snp_a"), null);
      assert.deepEqual(await pool.findDebris(), []);
      assert.ok(before.headroomBytes >= 64 * MIB, "what is written between two looks fits into the headroom");
      await eventually(async () => (await driver.capacity()).availableBytes > before.totalBytes / 2, 60_000);
    });
  });
}

async function collect<T>(items: AsyncIterable<T>): Promise<readonly T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** Writes until the device refuses. */
async function fill(path: string, sizeBytes: number): Promise<void> {
  const part = patternOf("hog", 16 * MIB);
  for (let offset = 0; offset < sizeBytes; offset += part.length) {
    await writeDevice(path, part.subarray(0, Math.min(part.length, sizeBytes - offset)), offset);
  }
}

async function eventually(isTrue: () => Promise<boolean>, timeoutMs = 10_000): Promise<void> {
  const deadline = performance.now() + testTimeoutMs(timeoutMs);
  while (!(await isTrue())) {
    assert.ok(performance.now() < deadline, `not so within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
