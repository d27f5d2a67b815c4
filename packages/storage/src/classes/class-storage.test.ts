import assert from "node:assert/strict";
import { join } from "node:path";
import { suite, test } from "node:test";
import { CaissonError } from "@caisson/model";
import { makeClassTestPool } from "../../testing/class-test-pool.ts";
import { describeStorageConformance } from "../../testing/conformance.ts";
import { hashDevice, MIB, patternOf, writeDevice } from "../../testing/device-io.ts";
import { TestDisk } from "../../testing/local-test-pool.ts";
import type { SharedStorageDriver, StorageDriver } from "../driver.ts";
import { LOCAL_CAPABILITIES, LocalStorage } from "../local/local-storage.ts";
import { ClassStorage } from "./class-storage.ts";

describeStorageConformance("pools of two classes", {
  capabilities: LOCAL_CAPABILITIES,
  makePool: makeClassTestPool,
  hasPowerCut: true,
  pointStride: 3,
});

const [LOCAL, REPLICATED] = ["vol_ord_00000000000000000000", "vol_ord_o0000000000000000000"];
const [LOCAL_SNAPSHOT, REPLICATED_SNAPSHOT] = ["snp_ord_00000000000000000000", "snp_ord_o0000000000000000000"];

interface World {
  readonly local: LocalStorage;
  readonly replicated: LocalStorage;
  readonly problems: string[];
  /** With what opens the replicated pool; null: the settings name none. */
  open(openReplicated: (() => Promise<StorageDriver>) | null): Promise<ClassStorage>;
}

async function withWorld(run: (world: World) => Promise<void>): Promise<void> {
  const disks = [await TestDisk.create("ext4", 700 * MIB), await TestDisk.create("ext4", 700 * MIB)] as const;
  try {
    const openOn = ({ mountPath }: TestDisk) =>
      LocalStorage.open({ directory: join(mountPath, "pool"), reserveBytes: 64 * MIB, poolSizeBytes: 512 * MIB });
    await using local = await openOn(disks[0]);
    await using replicated = await openOn(disks[1]);
    const problems: string[] = [];
    await run({
      local,
      replicated,
      problems,
      open: (open) =>
        ClassStorage.open({
          local,
          replicated: open === null ? null : { name: "far", open },
          onProblem: (directory, problem) => problems.push(`${directory}: ${problem}`),
        }),
    });
  } finally {
    for (const disk of disks) await disk.dispose();
  }
}

async function fill(storage: StorageDriver, id: string): Promise<void> {
  const device = await storage.attach(id, "rw");
  await writeDevice(device.path, patternOf(id, 3 * MIB), 2 * MIB);
  await storage.detach(device);
}

async function hash(storage: StorageDriver, id: string): Promise<string> {
  const device = await storage.attach(id, "ro");
  try {
    return await hashDevice(device.path);
  } finally {
    await storage.detach(device);
  }
}

async function idsIn(storage: StorageDriver): Promise<readonly string[]> {
  return (await Array.fromAsync(storage.listImages(), ({ id }) => id)).sort();
}

/** A pool that hosts share, with these answers of its own about writers. */
function shared(pool: StorageDriver, answers: Pick<SharedStorageDriver, "writerOf" | "fence">): StorageDriver {
  const own = { ...answers, clientInstance: "run_now", capabilities: { ...pool.capabilities, isShared: true } };
  return new Proxy(pool, {
    get(target, name) {
      if (name in own) return Reflect.get(own, name);
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

const isUnavailable = (pattern: RegExp) => (error: unknown) =>
  error instanceof CaissonError && error.code === "DISK_UNAVAILABLE" && pattern.test(error.message);

suite("pools of two classes", () => {
  test("each image lies where its id says, and the sizes of both pools are told, with their classes", async () => {
    await withWorld(async ({ local, replicated, open }) => {
      const storage = await open(async () => replicated);
      for (const id of [LOCAL, REPLICATED, "scr_a"]) await storage.createImage(id, { sizeBytes: 8 * MIB });
      await fill(storage, REPLICATED);
      await storage.sealImage(REPLICATED, REPLICATED_SNAPSHOT);
      assert.deepEqual(await idsIn(local), ["scr_a", LOCAL].sort());
      assert.deepEqual(await idsIn(replicated), [REPLICATED_SNAPSHOT, REPLICATED].sort());
      assert.deepEqual(await idsIn(storage), ["scr_a", LOCAL, REPLICATED, REPLICATED_SNAPSHOT].sort());
      assert.notEqual(storage.placeOf(LOCAL).directory, storage.placeOf(REPLICATED).directory);
      const { disks, totalBytes } = await storage.capacity();
      assert.deepEqual(
        disks.map((disk) => [disk.directory, disk.class]),
        [
          [storage.placeOf(LOCAL).directory, undefined],
          [storage.placeOf(REPLICATED).directory, "replicated"],
        ],
      );
      assert.equal(
        totalBytes,
        disks.reduce((sum, disk) => sum + disk.totalBytes, 0),
      );
      const space = storage.spaceNow(storage.placeOf(REPLICATED).directory, []);
      assert.equal(space.freeBytes, (await replicated.capacity()).freeBytes);
    });
  });

  test("whatever keeps a lost writer from being shut out makes its image unavailable, and it is shut out the next time", async () => {
    await withWorld(async ({ replicated, open }) => {
      const problems = [
        new CaissonError("INTERNAL_ERROR", "the row has changed"),
        new CaissonError("DISK_UNAVAILABLE", "the cluster does not answer"),
      ];
      const fenced: string[] = [];
      let writer: string | null = "run_lost";
      const storage = await open(async () =>
        shared(replicated, {
          writerOf: async () => writer,
          async fence(instance) {
            const problem = problems.shift();
            if (problem !== undefined) throw problem;
            fenced.push(instance);
          },
        }),
      );
      await assert.rejects(
        storage.takeOver(REPLICATED, []),
        isUnavailable(/take over.*the row has changed.*tried again/),
      );
      await assert.rejects(storage.takeOver(REPLICATED, []), isUnavailable(/^the cluster does not answer$/));
      await assert.rejects(storage.takeOver(REPLICATED, ["run_else", "run_lost"]), {
        code: "VOLUME_IN_USE",
        message: /take over image .*: another node, which is not lost, has not let go of it yet/,
      });
      assert.deepEqual(fenced, []);
      await storage.takeOver(REPLICATED, ["run_else"]);
      for (const other of [null, "run_now"]) {
        writer = other;
        await storage.takeOver(REPLICATED, []);
      }
      await storage.takeOver(LOCAL, ["run_lost"]);
      assert.deepEqual(fenced, ["run_lost"]);
      problems.push(new CaissonError("INTERNAL_ERROR", "the row has changed"));
      await assert.rejects(
        storage.fence("run_other"),
        isUnavailable(/shut run_other out.*the row has changed.*tried again/),
      );
      await storage.fence("run_other");
      assert.deepEqual(fenced, ["run_lost", "run_other"]);
      assert.equal(storage.shared?.clientInstance, "run_now");
    });
  });

  test("a clone of the other class is a copy of its own, in both directions, and may be larger", async () => {
    await withWorld(async ({ local, replicated, open }) => {
      const storage = await open(async () => replicated);
      for (const [source, snapshot, clone] of [
        [LOCAL, LOCAL_SNAPSHOT, "vol_ord_o1111111111111111111"],
        [REPLICATED, REPLICATED_SNAPSHOT, "vol_ord_11111111111111111111"],
      ] as const) {
        await storage.createImage(source, { sizeBytes: 8 * MIB });
        await fill(storage, source);
        await storage.sealImage(source, snapshot);
        await storage.createImage(clone, { sizeBytes: 8 * MIB, parent: snapshot });
        assert.equal(await hash(storage, clone), await hash(storage, source));
        const usage = await storage.usage(clone, { base: snapshot });
        assert.equal(usage?.allocatedBytes, usage?.flattenedBytes, "it shares nothing");
        const larger = clone.replace(/1$/, "2");
        await storage.createImage(larger, { sizeBytes: 12 * MIB, parent: snapshot });
        assert.equal((await storage.getImage(larger))?.sizeBytes, 12 * MIB);
        await storage.deleteImage(snapshot);
        assert.equal(await hash(storage, clone), await hash(storage, source));
      }
      assert.equal((await idsIn(local)).length, 3);
      assert.equal((await idsIn(replicated)).length, 3);
    });
  });

  test("what a crash has left of a copy is no image, and goes with the one that it was for", async () => {
    await withWorld(async ({ replicated, open }) => {
      const storage = await open(async () => replicated);
      await storage.createImage(LOCAL, { sizeBytes: 8 * MIB });
      await storage.sealImage(LOCAL, LOCAL_SNAPSHOT);
      const leaveCopy = () => replicated.createSealed(`cpy_${REPLICATED}`, (image) => image.setSize(8 * MIB));
      await leaveCopy();
      assert.ok(!(await idsIn(storage)).some((id) => id.startsWith("cpy_")));
      await storage.deleteImage(REPLICATED);
      assert.deepEqual(await idsIn(replicated), []);
      await leaveCopy();
      await storage.createImage(REPLICATED, { sizeBytes: 8 * MIB, parent: LOCAL_SNAPSHOT });
      assert.deepEqual(await idsIn(replicated), [REPLICATED]);
    });
  });

  test("a replicated pool that is away keeps nobody from the local one, and nothing of it looks deleted", async () => {
    await withWorld(async ({ problems, open }) => {
      const storage = await open(() => Promise.reject(new Error("no route to the cluster")));
      assert.match(problems.join(), /^far: the replicated pool far cannot be used: no route to the cluster/);
      await storage.createImage(LOCAL, { sizeBytes: 8 * MIB });
      const away = isUnavailable(/no route to the cluster/);
      await assert.rejects(storage.createImage(REPLICATED, { sizeBytes: 8 * MIB }), away);
      await assert.rejects(storage.getImage(REPLICATED), away);
      await assert.rejects(storage.deleteImage(REPLICATED), away);
      assert.equal(await storage.usage(REPLICATED), null);
      assert.equal(await storage.storedBytes(REPLICATED), 0);
      assert.deepEqual(await idsIn(storage), [LOCAL]);
      const [, far] = (await storage.capacity()).disks;
      assert.deepEqual([far?.class, far?.totalBytes], ["replicated", 0]);
      assert.equal(far?.problem, storage.placeOf(REPLICATED).problem);
      assert.equal(problems.length, 1, "it is told once");
    });
  });

  test("one that fails to be measured is told of, and again only after it worked", async (context) => {
    await withWorld(async ({ replicated, problems, open }) => {
      const storage = await open(async () => replicated);
      const measure = context.mock.method(replicated, "capacity");
      const failing = () => Promise.reject(new Error("too slow"));
      for (const fails of [true, true, false, true]) {
        measure.mock.mockImplementation(fails ? failing : LocalStorage.prototype.capacity.bind(replicated));
        const [near, far] = (await storage.capacity()).disks;
        assert.equal(near?.problem, null);
        assert.equal(far?.problem === null, !fails);
      }
      assert.equal(problems.length, 2);
      measure.mock.restore();
    });
  });

  test("a replicated pool that is this machine's alone shuts nobody out", async () => {
    await withWorld(async ({ replicated, open }) => {
      for (const openReplicated of [null, async () => replicated]) {
        const storage = await open(openReplicated);
        assert.equal(storage.shared, null);
        await assert.rejects(storage.fence("run_other"), isUnavailable(/none that nodes share/));
      }
    });
  });

  test("without a replicated pool in the settings its images are unavailable, with what to do", async () => {
    await withWorld(async ({ open }) => {
      const storage = await open(null);
      await assert.rejects(storage.getImage(REPLICATED), isUnavailable(/under "\[replicated\]" in caisson\.toml/));
      assert.match(storage.placeOf(REPLICATED).problem ?? "", /under "\[replicated\]"/);
      assert.equal((await storage.capacity()).disks.length, 1);
    });
  });

  test("a snapshot lies with its volume", async () => {
    await withWorld(async ({ replicated, open }) => {
      const storage = await open(async () => replicated);
      await storage.createImage(LOCAL, { sizeBytes: 8 * MIB });
      await assert.rejects(storage.sealImage(LOCAL, REPLICATED_SNAPSHOT), /a snapshot lies with its volume/);
    });
  });
});
