import assert from "node:assert/strict";
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import { runTool } from "@caisson/linux";
import { testTimeoutMs } from "@caisson/linux/testing";
import { describeStorageConformance } from "../../testing/conformance.ts";
import { MIB, patternOf, readDevice, writeDevice } from "../../testing/device-io.ts";
import { findDebris, TestDisk } from "../../testing/local-test-pool.ts";
import { makeSpreadTestPool } from "../../testing/spread-test-pool.ts";
import { LOCAL_CAPABILITIES } from "../local/local-storage.ts";
import { SpreadStorage } from "./spread-storage.ts";

describeStorageConformance("pool on two disks", {
  capabilities: LOCAL_CAPABILITIES,
  makePool: makeSpreadTestPool,
  hasPowerCut: true,
  pointStride: 3,
});

interface Disks {
  readonly first: TestDisk;
  readonly second: TestDisk;
  /** Of the second. */
  readonly directory: string;
  readonly problems: string[];
  open(directories?: readonly string[]): Promise<SpreadStorage>;
}

/** Two disks, the second with more room. */
async function withDisks(run: (disks: Disks) => Promise<void>): Promise<void> {
  // What fails while they go hides nothing of why the test failed.
  await using disks = new AsyncDisposableStack();
  const make = async (sizeBytes: number): Promise<TestDisk> =>
    disks.adopt(await TestDisk.create("ext4", sizeBytes), (disk) => disk.dispose());
  const first = await make(900 * MIB);
  const second = await make(1200 * MIB);
  const problems: string[] = [];
  const directory = join(second.mountPath, "ord");
  await run({
    first,
    second,
    directory,
    problems,
    open(directories = [directory]) {
      problems.length = 0;
      return SpreadStorage.open({
        directory: join(first.mountPath, "pool"),
        reserveBytes: 64 * MIB,
        disks: directories.map((each) => ({ directory: each })),
        onProblem: (_directory, problem) => problems.push(problem),
        onBackgroundError: (error) => problems.push(String(error)),
      });
    },
  });
}

async function write(storage: SpreadStorage, id: string, contents: Buffer): Promise<void> {
  const device = await storage.attach(id, "rw");
  try {
    await writeDevice(device.path, contents, 0);
  } finally {
    await storage.detach(device);
  }
}

/** Makes an image that takes what its disk has available, but for so much. */
async function hog(storage: SpreadStorage, id: string, { index, leftBytes }: { index: number; leftBytes: number }) {
  const sizeBytes = ((await storage.capacity()).disks[index]?.availableBytes ?? 0) - leftBytes;
  await storage.createImage(id, { sizeBytes });
  await write(storage, id, Buffer.alloc(sizeBytes, 1));
}

async function read(storage: SpreadStorage, id: string, length: number): Promise<Buffer> {
  const device = await storage.attach(id, "ro");
  try {
    return (await readDevice(device.path)).subarray(0, length);
  } finally {
    await storage.detach(device);
  }
}

suite("a pool on two disks", () => {
  test("what is new goes where most room is, clones and snapshots stay with it, and the server's own on the first disk", async () => {
    await withDisks(async ({ first, directory, open }) => {
      await using storage = await open();
      const at = (id: string) => storage.placeOf(id).directory;
      await storage.createImage("vol_a", { sizeBytes: 64 * MIB });
      await storage.sealImage("vol_a", "snp_a");
      await storage.createImage("vol_b", { sizeBytes: 64 * MIB, parent: "snp_a" });
      await storage.createImage("img_base", { sizeBytes: 64 * MIB });
      await storage.sealImage("img_base", "img_base-1");
      await storage.createImage("vol_c", { sizeBytes: 64 * MIB, parent: "img_base-1" });
      assert.deepEqual(["vol_a", "snp_a", "vol_b"].map(at), [directory, directory, directory]);
      const own = join(first.mountPath, "pool");
      assert.deepEqual(["img_base", "img_base-1", "vol_c"].map(at), [own, own, own]);
      const { disks, totalBytes, availableBytes } = await storage.capacity();
      assert.deepEqual(
        disks.map((disk) => [disk.directory, disk.problem]),
        [
          [own, null],
          [directory, null],
        ],
      );
      assert.equal(
        totalBytes,
        disks.reduce((sum, disk) => sum + disk.totalBytes, 0),
      );
      assert.equal(
        availableBytes,
        disks.reduce((sum, disk) => sum + disk.availableBytes, 0),
      );
    });
  });

  test("a disk whose directory cannot be made says which one to make", async () => {
    await withDisks(async ({ second, problems, open }) => {
      await using _storage = await open([join(second.mountPath, "absent", "ord")]);
      assert.match(
        problems.join(),
        /Cannot use the disk .*\/absent\/ord: .*\/absent does not exist\. Make it, .* start the server again$/,
      );
    });
  });

  test("a clone whose base has no room is a whole copy on the other disk, and takes nothing of its base's", async () => {
    await withDisks(async ({ directory, open }) => {
      await using storage = await open();
      const contents = patternOf("base", 5 * MIB);
      await storage.createImage("img_base", { sizeBytes: 64 * MIB });
      await write(storage, "img_base", contents);
      await storage.sealImage("img_base", "img_sealed");
      await hog(storage, "img_hog", { index: 0, leftBytes: 32 * MIB });
      await storage.createImage("vol_copy", { sizeBytes: 96 * MIB, parent: "img_sealed" });
      assert.equal(storage.placeOf("vol_copy").directory, directory);
      assert.deepEqual(await read(storage, "vol_copy", contents.length), contents);
      assert.equal((await storage.getImage("vol_copy"))?.sizeBytes, 96 * MIB);
      const usage = await storage.usage("vol_copy", { base: "img_sealed" });
      assert.deepEqual(usage, {
        allocatedBytes: contents.length,
        flattenedBytes: contents.length,
        exclusiveBytes: contents.length,
      });
      await storage.createImage("vol_copy", { sizeBytes: 96 * MIB, parent: "img_sealed" });
    });
  });

  test("two copies at once that fit alone but not together: one is whole, the other is refused and leaves nothing", async () => {
    await withDisks(async ({ first, directory, open }) => {
      await using storage = await open();
      const contents = patternOf("base", 256 * MIB);
      await storage.createImage("img_base", { sizeBytes: 256 * MIB });
      await write(storage, "img_base", contents);
      await storage.sealImage("img_base", "img_a");
      await storage.sealImage("img_base", "img_b");
      await hog(storage, "vol_hog", { index: 1, leftBytes: (256 + 64 + 80) * MIB });
      await hog(storage, "img_hog", { index: 0, leftBytes: 32 * MIB });
      const copies = ["a", "b"].map((name) =>
        storage.createImage(`vol_${name}`, { sizeBytes: 256 * MIB, parent: `img_${name}` }),
      );
      const outcomes = await Promise.allSettled(copies);
      // Which of them comes first is for the scheduler to say.
      const [made, refused] = outcomes[0]?.status === "fulfilled" ? ["a", "b"] : ["b", "a"];
      assert.deepEqual(outcomes.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
      assert.deepEqual(await read(storage, `vol_${made}`, contents.length), contents);
      assert.equal(storage.placeOf(`vol_${made}`).directory, directory);
      const refusal = outcomes.find((outcome) => outcome.status === "rejected");
      assert.equal(refusal?.reason.code, "STORAGE_FULL");
      assert.match(
        refusal.reason.message,
        new RegExp(
          `create image vol_${refused}: the disk of img_${refused} is full, and a copy .* Purge what is deleted`,
        ),
      );
      assert.equal(await storage.getImage(`vol_${refused}`), null);
      assert.deepEqual((await readdir(join(first.mountPath, "pool/placed"))).sort(), [`vol_${made}`, "vol_hog"]);
      assert.deepEqual(await findDebris([join(directory, "mount")]), []);
      await storage.deleteImage("vol_hog");
      // The disk below has it when the pool has given it back.
      const deadline = performance.now() + testTimeoutMs(60_000);
      const secondBytes = async () => (await storage.capacity()).disks[1]?.availableBytes ?? 0;
      while ((await secondBytes()) < 400 * MIB) assert.ok(performance.now() < deadline, "room");
      await storage.createImage(`vol_${refused}`, { sizeBytes: 256 * MIB, parent: `img_${refused}` });
      assert.equal(storage.placeOf(`vol_${refused}`).directory, directory);
    });
  });

  test("a disk that fails while the server runs keeps nothing from the others, is told of once, and is back when it is sound", async () => {
    await withDisks(async ({ first, directory, problems, open }) => {
      const own = join(first.mountPath, "pool");
      {
        await using storage = await open();
        await storage.createImage("vol_far", { sizeBytes: 64 * MIB });
        await write(storage, "vol_far", patternOf("far", MIB));
        await storage.createImage("img_near", { sizeBytes: 64 * MIB });
        const devices = [await storage.attach("vol_far", "rw"), await storage.attach("img_near", "rw")];
        // As when its writes fail: every call for what is on it does from now on.
        await runTool("xfs_io", ["-x", "-c", "shutdown", join(directory, "mount")]);
        for (let round = 0; round < 3; round += 1) {
          assert.deepEqual([...storage.spaceNow(own, ["img_near"]).storedBytes.keys()], ["img_near"]);
          assert.throws(() => storage.spaceNow(directory, ["vol_far"]), { code: "EIO" });
          const { disks, totalBytes } = await storage.capacity();
          assert.deepEqual([disks[0]?.problem, disks[0]?.totalBytes], [null, totalBytes]);
          assert.match(disks[1]?.problem ?? "", /Cannot measure the disk .*ord: .*EIO.* start the server again/);
          await storage.evictSpares();
          const images = await Array.fromAsync(storage.listImages());
          assert.deepEqual(images.map(({ id }) => id).sort(), round === 0 ? ["img_near"] : ["img_near", "vol_new"]);
          await storage.createImage("vol_new", { sizeBytes: 64 * MIB });
          assert.equal(storage.placeOf("vol_new").directory, own);
        }
        const told = problems.filter((problem) => problem.startsWith("Cannot"));
        assert.equal(new Set(told).size, told.length, told.join("\n"));
        for (const device of devices) await storage.detach(device).catch(() => storage.detach(device));
      }
      await using storage = await open();
      assert.deepEqual(problems, []);
      assert.deepEqual(await read(storage, "vol_far", MIB), patternOf("far", MIB));
    });
  });

  test("a disk that became read-only gets nothing new until it can be written to, and is told of once each time", async () => {
    await withDisks(async ({ first, directory, problems, open }) => {
      await using storage = await open();
      const mount = join(directory, "mount");
      const at = async (id: string): Promise<string> => {
        await storage.createImage(id, { sizeBytes: 64 * MIB });
        return storage.placeOf(id).directory;
      };
      for (const round of [1, 2]) {
        await runTool("mount", ["-o", "remount,ro", mount]);
        assert.equal(await at(`vol_near${round}`), join(first.mountPath, "pool"));
        assert.match((await storage.capacity()).disks[1]?.problem ?? "", /EROFS/);
        assert.equal(problems.filter((problem) => problem.includes("Cannot measure")).length, round);
        await runTool("mount", ["-o", "remount,rw", mount]);
        assert.equal(await at(`vol_far${round}`), directory);
      }
    });
  });

  test("a disk that is not mounted keeps nobody from the rest: its images are named as such, and are back with it", async () => {
    await withDisks(async ({ second, directory, problems, open }) => {
      {
        await using storage = await open();
        await storage.createImage("vol_far", { sizeBytes: 64 * MIB });
        await write(storage, "vol_far", patternOf("far", MIB));
      }
      await second.unmount();
      {
        await using storage = await open();
        assert.match(
          problems.join(),
          /Cannot use the disk .*ord: its disk is not mounted there .* start the server again$/,
        );
        const unavailable = { code: "DISK_UNAVAILABLE", message: /vol_far.*not mounted there/ };
        await assert.rejects(storage.getImage("vol_far"), unavailable);
        await assert.rejects(storage.attach("vol_far", "ro"), unavailable);
        await assert.rejects(storage.deleteImage("vol_far"), unavailable);
        await assert.rejects(storage.createImage("vol_far", { sizeBytes: 64 * MIB }), unavailable);
        assert.match(storage.placeOf("vol_far").problem ?? "", /not mounted/);
        // Nothing was made where the disk should be.
        assert.deepEqual(await readdir(second.mountPath), []);
        await storage.createImage("vol_near", { sizeBytes: 64 * MIB });
        assert.equal(storage.placeOf("vol_near").problem, null);
        assert.equal(await storage.getImage("vol_other"), null);
        const [, missing] = (await storage.capacity()).disks;
        assert.deepEqual([missing?.directory, missing?.totalBytes], [directory, 0]);
      }
      await second.mount();
      await using storage = await open();
      assert.deepEqual(problems, []);
      assert.deepEqual(await read(storage, "vol_far", MIB), patternOf("far", MIB));
      assert.notEqual(await storage.getImage("vol_near"), null);
    });
  });

  test("a disk that the settings name no more is told of while something lies on it, and known again at another place", async () => {
    await withDisks(async ({ second, directory, problems, open }) => {
      {
        await using storage = await open();
        await storage.createImage("vol_far", { sizeBytes: 64 * MIB });
      }
      {
        await using storage = await open([]);
        assert.match(problems.join(), /settings do not name it any more, and 1 image/);
        await assert.rejects(storage.getImage("vol_far"), { code: "DISK_UNAVAILABLE" });
      }
      const moved = join(second.directory, "elsewhere");
      await second.unmount();
      await mkdir(moved);
      await second.mount(moved);
      {
        await using storage = await open([join(moved, "ord")]);
        assert.deepEqual(problems, []);
        assert.equal(storage.placeOf("vol_far").directory, join(moved, "ord"));
        await storage.deleteImage("vol_far");
      }
      {
        await using _storage = await open([]);
        assert.deepEqual(problems, []);
      }
      assert.notEqual(directory, moved);
    });
  });

  test("what is no disk of this pool is refused with the reason, and the pool opens without it", async () => {
    await withDisks(async ({ first, second, directory, problems, open }) => {
      const beside = join(first.mountPath, "beside");
      await (await open([beside])).close();
      assert.match(problems.join(), /same file system as another disk/);
      await (await open([join(second.mountPath, "not/there")])).close();
      assert.match(problems.join(), /not does not exist. Make it/);
      await mkdir(directory);
      await writeFile(join(directory, "disk.json"), JSON.stringify({ id: "d", pool: "of somebody else" }));
      await (await open()).close();
      assert.match(problems.join(), /belongs to another pool/);
      await rm(join(directory, "disk.json"));
      // Marked, and cut off before it was entered.
      await (await open()).close();
      assert.deepEqual(problems, []);
      await rm(join(first.mountPath, "pool/disks.json.new"), { force: true });
    });
  });

  test("a copy of a disk beside it is refused, and what lies on the disk stays known", async () => {
    await withDisks(async ({ second, directory, problems, open }) => {
      const storage = await open();
      await storage.createImage("vol_a", { sizeBytes: 64 * MIB });
      await storage.close();
      const copy = join(second.mountPath, "copy");
      await mkdir(copy);
      await copyFile(join(directory, "disk.json"), join(copy, "disk.json"));
      await using again = await open([directory, copy]);
      assert.match(problems.join(), /copy: it is a copy of the disk .*Name only the one that was in use last/);
      assert.equal((await again.getImage("vol_a"))?.sizeBytes, 64 * MIB);
    });
  });

  test("where the register of disks is lost, the pool is known again by the marks of its disks, and that is told", async () => {
    await withDisks(async ({ first, directory, problems, open }) => {
      const storage = await open();
      await storage.createImage("vol_a", { sizeBytes: 64 * MIB });
      await storage.close();
      const register = join(first.mountPath, "pool/disks.json");
      const before = await readFile(register, "utf8");
      await rm(register);
      {
        await using without = await open();
        assert.match(problems.join(), /disks\.json was missing, and is made again: .* marks of one pool/);
        assert.equal((await without.getImage("vol_a"))?.sizeBytes, 64 * MIB);
        assert.equal(without.placeOf("vol_a").directory, directory);
      }
      assert.equal(await readFile(register, "utf8"), before);
      await using _again = await open();
      assert.deepEqual(problems, []);
    });
  });

  test("a lost register is not made anew while it is not known which pool it was: the pool is refused, and nothing changes", async () => {
    await withDisks(async ({ first, second, directory, open }) => {
      const storage = await open();
      await storage.createImage("vol_a", { sizeBytes: 64 * MIB });
      await storage.close();
      const register = join(first.mountPath, "pool/disks.json");
      const saved = await readFile(register);
      await rm(register);
      const foreign = join(second.mountPath, "foreign");
      await mkdir(foreign);
      await writeFile(join(foreign, "disk.json"), JSON.stringify({ id: "d", pool: "of somebody else" }));
      const several = /disks\.json is missing.* several pools .*Name only those of this pool, or restore the file/;
      await assert.rejects(open([directory, foreign]), { code: "INVALID_CONFIG", message: several });
      const nowhere = /disks\.json is missing.* not to be found\. Mount those disks and name them/;
      await assert.rejects(open([]), { code: "INVALID_CONFIG", message: nowhere });
      await assert.rejects(readFile(register), { code: "ENOENT" });
      await writeFile(register, saved);
      await using again = await open();
      assert.equal((await again.getImage("vol_a"))?.sizeBytes, 64 * MIB);
    });
  });

  test("a pool that is new takes no id over from a disk that is another pool's, one with images that never had a register does", async () => {
    await withDisks(async ({ first, directory, problems, open }) => {
      await mkdir(directory);
      await writeFile(join(directory, "disk.json"), JSON.stringify({ id: "d", pool: "lost" }));
      {
        await using storage = await open();
        assert.match(problems.join(), /belongs to another pool/);
        await storage.createImage("vol_near", { sizeBytes: 64 * MIB });
        assert.equal(storage.placeOf("vol_near").directory, join(first.mountPath, "pool"));
      }
      await rm(join(first.mountPath, "pool/disks.json"));
      await using storage = await open();
      assert.match(problems.join(), /marks of one pool \(lost\)/);
      assert.deepEqual(
        (await storage.capacity()).disks.map(({ problem }) => problem),
        [null, null],
      );
    });
  });
});
