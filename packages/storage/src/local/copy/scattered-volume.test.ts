import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { scatterFile } from "../../../testing/scatter.ts";
import { readLastRecord, StampedWriter } from "../../../testing/stamped-records.ts";

const MIB = 2 ** 20;
const SIZE_BYTES = 128 * MIB;
const BLOCKS = 1_500;

// The plan of faults is read when the modules are loaded.
const faults = await mkdtemp(join(tmpdir(), "caisson-scattered-"));
const [planPath, tracePath] = [join(faults, "plan"), join(faults, "trace")];
await writeFile(planPath, "");
process.env.CAISSON_FAULT_PLAN = planPath;
process.env.CAISSON_FAULT_TRACE = tracePath;
const { createFileSystemMount, freeze, openFile, runTool, thaw } = await import("@caisson/linux");
const { testTimeoutMs } = await import("@caisson/linux/testing");
const { hashDevice } = await import("../../../testing/device-io.ts");
const { TestDisk } = await import("../../../testing/local-test-pool.ts");
const { formatFileSystem, mountVolume, unmountVolume } = await import("../../file-system.ts");
const { LocalStorage } = await import("../local-storage.ts");

const live = (mountPath: string) => ({ live: { mountPath, freezeDeadlineMs: testTimeoutMs(10_000) } });

describe("a volume in many parts", () => {
  let disk: Awaited<ReturnType<typeof TestDisk.create>>;
  let storage: Awaited<ReturnType<typeof LocalStorage.open>>;
  let target = "";
  let revision = 0;

  const open = async () => {
    storage = await LocalStorage.open({
      directory: join(disk.mountPath, "pool"),
      reserveBytes: 64 * MIB,
      onBackgroundError: () => {},
    });
  };
  const plan = async (text: string): Promise<void> => {
    revision += 1;
    await writeFile(tracePath, "");
    await writeFile(planPath, `revision ${revision}\n${text}\n`);
  };
  const passed = async (tag: string): Promise<number> =>
    (await readFile(tracePath, "utf8")).split("\n").filter((line) => line.startsWith(`${tag} `)).length;

  before(async () => {
    disk = await TestDisk.create("ext4", 1200 * MIB);
    target = join(disk.directory, "volume");
    await mkdir(target);
    await open();
  });

  after(async () => {
    await storage.close();
    await disk.dispose();
    await rm(faults, { recursive: true });
  });

  beforeEach(() => plan(""));

  /** A mounted volume in many parts, with a writer on it; what the test makes is deleted. */
  const withVolume = async (
    run: (writer: StampedWriter) => Promise<void>,
    kept: readonly string[] = [],
    blocks = BLOCKS,
  ): Promise<void> => {
    await storage.createImage("vol_a", { sizeBytes: SIZE_BYTES });
    const device = await storage.attach("vol_a", "rw");
    await formatFileSystem(device.path, "data");
    await mountVolume({ device: device.path, target, kind: "data", isReadOnly: false });
    try {
      await writeFile(join(target, "large"), Buffer.alloc(64 * MIB, 1), { flush: true });
      await storage.sealImage("vol_a", "snp_before", live(target));
      scatterFile(join(target, "large"), blocks);
      await using writer = await StampedWriter.start(join(target, "records"));
      await run(writer);
    } finally {
      await unmountVolume(target);
      await storage.detach(device);
      for await (const { id } of storage.listImages()) if (!kept.includes(id)) await storage.deleteImage(id);
    }
  };

  /** Seals, and looks at what the snapshot holds: a file system without a fault, with every record that was acknowledged before. */
  const sealAndCheck = async (writer: StampedWriter, id: string): Promise<number> => {
    const acknowledged = writer.acknowledged;
    const { frozenMs } = await storage.sealImage("vol_a", id, live(target));
    await writer.progress(10);
    const snapshot = await storage.attach(id, "ro");
    const mountPath = join(disk.directory, id);
    await mkdir(mountPath, { recursive: true });
    try {
      await runTool("e2fsck", ["-fn", snapshot.path]);
      await mountVolume({ device: snapshot.path, target: mountPath, kind: "data", isReadOnly: true });
      const last = readLastRecord(join(mountPath, "records"));
      assert.ok(last >= acknowledged, `record ${acknowledged} was acknowledged, ${last} is the last`);
    } finally {
      await unmountVolume(mountPath);
      await storage.detach(snapshot);
    }
    return frozenMs;
  };

  test("an image that is deleted while one is made from it leaves that whole, and the deletion waits for it", async () => {
    await withVolume(async () => {
      await storage.sealImage("vol_a", "snp_kept", live(target));
      await storage.createImage("vol_whole", { sizeBytes: SIZE_BYTES, parent: "snp_kept" });
      const whole = await hash("vol_whole");
      await storage.evictSpares();
      await plan("storage.create.clone:before 1 delay:2000");
      const cloning = storage.createImage("vol_new", { sizeBytes: SIZE_BYTES, parent: "snp_kept" });
      while ((await passed("storage.create.clone:before")) === 0) await delay(5);
      await storage.deleteImage("snp_kept");
      await cloning;
      assert.equal(await hash("vol_new"), whole);
    });
  });

  test("is copied piece by piece while a program writes: the snapshot is whole and holds what was acknowledged", async () => {
    await withVolume(async (writer) => {
      for (const id of ["snp_1", "snp_2"]) {
        await plan("");
        assert.ok((await sealAndCheck(writer, id)) > 0);
        assert.ok((await passed("storage.seal.round")) > 0, "it was copied piece by piece");
        assert.equal(await passed("linux.ioctl.FICLONE"), 0);
        const pieces = await passed("linux.ioctl.FICLONERANGE");
        const syncs = await passed("storage.copy.sync");
        assert.ok(
          syncs > Math.floor(pieces / 16),
          `${pieces} pieces, of which every 16th is synced, and the last: ${syncs}`,
        );
      }
    });
    while ((await findTraces()).length > 0) await delay(10);
  });

  test("is copied anew when events of the trace were lost", async () => {
    await withVolume(async (writer) => {
      await plan("storage.seal.lost-events 1 fail:EOVERFLOW\nstorage.seal.lost-events 3 fail:EOVERFLOW");
      await sealAndCheck(writer, "snp_1");
      assert.equal(await passed("storage.seal.copy"), 3);
      assert.deepEqual(await findTraces(), [], "a trace with a larger buffer goes with its copy");
    });
  });

  test("writers go on at the deadline of the freeze, and the copy is taken with the next one", async () => {
    await withVolume(async (writer) => {
      await plan("storage.seal.freeze:after 1 delay:600");
      const acknowledged = writer.acknowledged;
      await storage.sealImage("vol_a", "snp_1", { live: { mountPath: target, freezeDeadlineMs: 100 } });
      assert.ok(writer.acknowledged > acknowledged);
      assert.ok((await passed("linux.ioctl.FIFREEZE")) >= 2);
      await sealAndCheck(writer, "snp_2");
    });
  });

  test("a freeze that belongs to somebody else outlives a copy that finds it", async () => {
    await withVolume(async (writer) => {
      await using mount = await openFile(target, "r");
      await freeze(mount, target);
      try {
        await assert.rejects(storage.sealImage("vol_a", "snp_1", live(target)), /EBUSY/);
        await assert.rejects(freeze(mount, target), { code: "EBUSY" });
      } finally {
        thaw(mount, target);
      }
      await sealAndCheck(writer, "snp_1");
    });
  });

  test("a trace that cannot start, or that its copy never resumes, is ended", async () => {
    await withVolume(async (writer) => {
      await plan("linux.trace.on 1 fail:EIO");
      await assert.rejects(storage.sealImage("vol_a", "snp_1", live(target)), /EIO/);
      assert.deepEqual(await findTraces(), []);
      await plan("");
      await sealAndCheck(writer, "snp_1");
      await storage.sparesMade();
      assert.equal((await findTraces()).length, 1);
      await plan("storage.copy.thread 1 fail:EIO");
      await assert.rejects(storage.sealImage("vol_a", "snp_2", live(target)), /EIO/);
      assert.deepEqual(await findTraces(), []);
      await plan("");
      await sealAndCheck(writer, "snp_2");
    });
  });

  test("a failure of any of its steps leaves nothing, and writers go on", async () => {
    await withVolume(async (writer) => {
      const steps = ["copy", "round", "write-back", "freeze:before", "freeze:after", "copied", "lost-events"];
      for (const step of steps) {
        await plan(`storage.seal.${step} 1 fail:EIO`);
        await assert.rejects(storage.sealImage("vol_a", "snp_1", live(target)), /EIO/, step);
        await writer.progress(5);
        assert.equal(await storage.getImage("snp_1"), null, step);
      }
      await plan("storage.copy.sync 1 fail:EIO");
      await assert.rejects(storage.sealImage("vol_a", "snp_1", live(target)), /EIO/);
      await plan("");
      await sealAndCheck(writer, "snp_1");
    });
  });

  test("of moderately many parts is copied at once, also the second time, where the host lets nobody trace", async () => {
    await storage.close();
    await plan("linux.fsopen 1 fail:ENODEV");
    await open();
    await plan("");
    await withVolume(
      async (writer) => {
        for (const id of ["snp_1", "snp_2"]) {
          assert.ok((await sealAndCheck(writer, id)) > 0);
          await storage.sparesMade();
          assert.ok((await spares()).includes("snp_1"), "it is in enough parts for a spare");
        }
      },
      [],
      400,
    );
    await storage.close();
    await open();
  });

  test("is refused as a whole where the host lets nobody trace, and copied when nobody writes", async () => {
    await storage.close();
    await plan("linux.fsopen 1 fail:ENODEV");
    await open();
    await plan("");
    await withVolume(async (writer) => {
      await assert.rejects(storage.sealImage("vol_a", "snp_1", live(target)), (error) => {
        assert.match(String(error), /in \d+ parts.*fsopen.*End the sandbox/);
        assert.equal((error as { code?: string }).code, "NOT_SUPPORTED");
        return true;
      });
      await writer.progress(5);
      await storage.sealImage("vol_a", "snp_at-rest");
    });
    await storage.close();
    await open();
  });

  const spares = async (): Promise<readonly string[]> => readdir(join(disk.mountPath, "pool/mount/spares"));
  const hash = async (id: string): Promise<string> => {
    const device = await storage.attach(id, "ro");
    try {
      return await hashDevice(device.path);
    } finally {
      await storage.detach(device);
    }
  };

  test("a snapshot of it gets a spare clone, which becomes the next volume made from it, and is replaced", async () => {
    await withVolume(async (writer) => {
      await sealAndCheck(writer, "snp_1");
      await storage.sparesMade();
      assert.deepEqual(await spares(), ["snp_1"], "only the one in many parts has one");
      for (const id of ["vol_b", "vol_c"]) {
        await plan("");
        await storage.createImage(id, { sizeBytes: SIZE_BYTES + 4 * MIB, parent: "snp_1" });
        assert.deepEqual(
          [await passed("storage.spare.take:after"), await passed("storage.create.clone:after")],
          [1, 0],
        );
        assert.equal((await storage.getImage(id))?.sizeBytes, SIZE_BYTES + 4 * MIB);
        await storage.sparesMade();
      }
      assert.deepEqual(await spares(), ["snp_1"]);
      await storage.evictSpares();
      assert.deepEqual(await spares(), []);
      await storage.createImage("vol_d", { sizeBytes: SIZE_BYTES + 4 * MIB, parent: "snp_1" });
      const hashes = new Set(await Promise.all(["vol_b", "vol_c", "vol_d"].map(hash)));
      assert.equal(hashes.size, 1);
      const contents = await readFile(join(disk.mountPath, "pool/mount/sealed/snp_1"));
      assert.ok(
        contents.equals((await readFile(join(disk.mountPath, "pool/mount/images/vol_b"))).subarray(0, SIZE_BYTES)),
      );
    });
  });

  test("the spare is the beginning of the volume's next snapshot, and only what was written since is copied", async () => {
    await withVolume(async (writer) => {
      await sealAndCheck(writer, "snp_1");
      const pieces = await passed("linux.ioctl.FICLONERANGE");
      await storage.sparesMade();
      scatterFile(join(target, "large"), 20);
      await plan("");
      await sealAndCheck(writer, "snp_2");
      assert.deepEqual(
        [await passed("storage.spare.take:after"), await passed("storage.seal.copy")],
        [1, 0],
        "the trace that went on tells what was written",
      );
      await storage.sparesMade();
      scatterFile(join(target, "large"), 20, 30);
      await plan("storage.seal.lost-events 1 fail:EOVERFLOW");
      await sealAndCheck(writer, "snp_3");
      assert.equal(await passed("storage.seal.copy"), 1, "it could not hold all of that, so the maps are compared");
      assert.ok((await passed("linux.ioctl.FICLONERANGE")) < pieces + 100);
      await storage.sparesMade();
      assert.deepEqual((await spares()).toSorted(), ["snp_1", "snp_2", "snp_3"]);
    });
  });

  test("after a restart too the next snapshot begins with the spare of the last", async () => {
    await withVolume(async (writer) => sealAndCheck(writer, "snp_1").then(() => undefined), ["vol_a", "snp_1"]);
    await storage.sparesMade();
    await storage.close();
    await open();
    await plan("");
    await storage.sealImage("vol_a", "snp_2");
    assert.equal(await passed("storage.spare.take:after"), 1);
    const [volume, snapshot] = await Promise.all([hash("vol_a"), hash("snp_2")]);
    assert.equal(volume, snapshot);
    await storage.sparesMade();
    // What a crash leaves, and what is gone.
    const links = join(disk.mountPath, "pool/mount/last-sealed");
    await writeFile(join(links, "vol_a.new"), "");
    await storage.deleteImage("snp_2");
    await storage.close();
    await open();
    assert.deepEqual(await readdir(links), []);
    for (const id of ["vol_a", "snp_1"]) await storage.deleteImage(id);
  });

  test("several volumes made from one snapshot at once are whole, and made one after the other", async () => {
    await withVolume(async (writer) => {
      await sealAndCheck(writer, "snp_1");
      await storage.sparesMade();
      await storage.evictSpares();
      await plan("");
      const ids = ["vol_b", "vol_c", "vol_d"];
      await Promise.all(ids.map((id) => storage.createImage(id, { sizeBytes: SIZE_BYTES, parent: "snp_1" })));
      const text = await readFile(tracePath, "utf8");
      const turns = text.split("\n").flatMap((line) => /^storage\.create\.clone:(\w+)/.exec(line)?.[1] ?? []);
      assert.deepEqual(turns.slice(0, 2), ["before", "after"]);
      assert.equal(new Set(await Promise.all([...ids, "snp_1"].map(hash))).size, 1);
    });
  });

  test("a spare never outlives its snapshot, and a start makes those that lack", async () => {
    await withVolume(
      async (writer) => {
        await sealAndCheck(writer, "snp_1");
        await sealAndCheck(writer, "snp_2");
        await storage.sparesMade();
        await storage.deleteImage("snp_1");
        assert.deepEqual(await spares(), ["snp_2"]);
      },
      ["snp_2"],
    );
    const pool = join(disk.mountPath, "pool/mount/spares");
    await storage.evictSpares();
    // What a crash leaves: one that was being made, and one whose image was removed after it was made.
    for (const name of ["snp_2.0123456789ab", "snp_gone"]) await writeFile(join(pool, name), "");
    await storage.close();
    await open();
    await storage.sparesMade();
    assert.deepEqual(await spares(), ["snp_2"]);
    await storage.deleteImage("snp_2");
    assert.deepEqual(await spares(), []);
  });

  test("what deleting a snapshot would free does not count its own spare as somebody else", async () => {
    await withVolume(
      async (writer) => {
        await sealAndCheck(writer, "snp_1");
      },
      ["snp_1"],
    );
    await storage.sparesMade();
    await storage.close();
    await open();
    assert.deepEqual(await spares(), ["snp_1"]);
    const usage = await storage.usage("snp_1");
    assert.ok(usage !== null && usage.exclusiveBytes > 64 * MIB, `${usage?.exclusiveBytes}`);
    assert.equal(usage.exclusiveBytes, usage.flattenedBytes);
    await storage.sparesMade();
    assert.deepEqual([await spares(), await storage.usage("snp_1")], [["snp_1"], usage]);
    const path = join(disk.mountPath, "pool/mount/spares/snp_1");
    const restart = async (): Promise<number> => {
      await storage.sparesMade();
      await storage.close();
      await open();
      return (await stat(path)).ctimeMs;
    };
    const known = (measuredAtMs: number) => ({ known: { exclusiveBytes: 12345, measuredAtMs } });
    const knownUsage = { ...usage, exclusiveBytes: 12345 };
    const waiting = { maxExtents: 1_000_000 };

    const kept = await restart();
    assert.equal(await storage.usage("snp_1", waiting), null, "a caller that waits does not cost the spare");
    assert.deepEqual(await storage.usage("snp_1", known(Date.now())), knownUsage);
    assert.deepEqual(await storage.usage("snp_1"), knownUsage);
    assert.equal(await restart(), kept, "what an earlier run measured spares it the removal");

    const { mtimeMs } = await stat(path);
    assert.deepEqual(await storage.usage("snp_1", known(mtimeMs - 1)), usage, "it was measured since");
    assert.notEqual(await restart(), kept);
    const old = new Date(Date.now() - 25 * 3_600_000);
    await utimes(path, old, old);
    assert.deepEqual(await storage.usage("snp_1", known(Date.now())), usage, "it is more than a day old");

    await restart();
    await storage.createImage("vol_b", { sizeBytes: SIZE_BYTES, parent: "snp_1" });
    await storage.sparesMade();
    assert.deepEqual(await storage.usage("snp_1", waiting), { ...usage, exclusiveBytes: 0 }, "measured before a spare");
    for (const id of ["vol_b", "snp_1"]) await storage.deleteImage(id);
  });

  test("opening the pool removes the traces that a server which died has left", async () => {
    await storage.close();
    await using mount = await createFileSystemMount({ type: "tracefs", source: "tracefs" });
    const { dev, ino } = await stat(join(disk.mountPath, "pool"));
    await mkdir(join(mount.path, "instances", `caisson-${dev}-${ino}.7`));
    assert.equal((await findTraces()).length, 1);
    await open();
    assert.deepEqual(await findTraces(), []);
  });

  /** Instances of the kernel's tracing that belong to this pool. */
  async function findTraces(): Promise<readonly string[]> {
    await using mount = await createFileSystemMount({ type: "tracefs", source: "tracefs" });
    const { dev, ino } = await stat(join(disk.mountPath, "pool"));
    return (await readdir(join(mount.path, "instances"))).filter((name) => name.startsWith(`caisson-${dev}-${ino}.`));
  }
});
