import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { CaissonError } from "@caisson/model";
import type { TestCeph as Cluster } from "../../testing/ceph/test-ceph.ts";
import type { BlockDevice } from "../driver.ts";
import type { CephStorageOptions, CephStorage as Storage } from "./ceph-storage.ts";
import type { RbdClient as Client } from "./rbd-client.ts";

const resources = new AsyncDisposableStack();
// The plan of faults is read when the modules are loaded.
const faults = await mkdtemp(join(tmpdir(), "caisson-ceph-faults-"));
resources.defer(() => rm(faults, { recursive: true }));
const [planPath, tracePath] = [join(faults, "plan"), join(faults, "trace")];
await writeFile(planPath, "");
process.env.CAISSON_FAULT_PLAN = planPath;
process.env.CAISSON_FAULT_TRACE = tracePath;
const { runTool } = await import("@caisson/linux");
const { testTimeoutMs } = await import("@caisson/linux/testing");
const { disposeHost, findCephDebris, hostOptions } = await import("../../testing/ceph/ceph-test-pool.ts");
const { freezeProcess, TestCeph } = await import("../../testing/ceph/test-ceph.ts");
const { MIB, patternOf, readDevice, writeDevice } = await import("../../testing/device-io.ts");
const { CephStorage } = await import("./ceph-storage.ts");
const { checkCeph } = await import("./check-ceph.ts");
const { RbdClient } = await import("./rbd-client.ts");

describe("hosts that share a Ceph pool", () => {
  let ceph: Cluster;
  let observer: Client;
  let options: readonly [CephStorageOptions, CephStorageOptions];
  let [lost, other]: [Storage, Storage] = [] as never;

  before(async () => {
    ceph = resources.adopt(await TestCeph.start(), (it) => it.stop());
    const { conf, user, pool } = ceph;
    const answerTimeoutMs = testTimeoutMs(120_000);
    observer = resources.adopt(await RbdClient.open({ conf, user, pool, answerTimeoutMs }), (it) => it.close());
  });
  after(() => resources.disposeAsync());
  beforeEach(async () => {
    options = [await hostOptions(ceph), await hostOptions(ceph)];
    [lost, other] = [await CephStorage.open(options[0]), await CephStorage.open(options[1])];
  });
  afterEach(async () => {
    await writeFile(planPath, "");
    await lost.close();
    await other.close();
    for (const host of options) await disposeHost(host);
  });

  const contentsOf = async (storage: Storage, id: string): Promise<Buffer> => {
    const device = await storage.attach(id, "ro");
    try {
      return await readDevice(device.path);
    } finally {
      await storage.detach(device);
    }
  };

  test("both see the same images; what one writes to, the other neither attaches, grows nor deletes until it is detached", async () => {
    assert.equal(lost.identity, other.identity);
    assert.notEqual(lost.clientInstance, other.clientInstance);
    await lost.createImage("vol_a", { sizeBytes: 4 * MIB });
    const device = await lost.attach("vol_a", "rw");
    await writeDevice(device.path, patternOf("first", MIB), 0);
    for (const mode of ["rw", "ro"] as const)
      await assert.rejects(other.attach("vol_a", mode), { code: "VOLUME_IN_USE", message: /another node/ });
    await assert.rejects(other.growImage("vol_a", 8 * MIB), { code: "VOLUME_IN_USE" });
    await assert.rejects(other.deleteImage("vol_a"), { code: "VOLUME_IN_USE" });
    await lost.detach(device);
    assert.deepEqual((await contentsOf(other, "vol_a")).subarray(0, MIB), patternOf("first", MIB));
    await other.sealImage("vol_a", "snp_a");
    await lost.createImage("vol_b", { sizeBytes: 4 * MIB, parent: "snp_a" });
    for (const id of ["vol_a", "snp_a"]) await other.deleteImage(id);
    assert.deepEqual((await contentsOf(other, "vol_b")).subarray(0, MIB), patternOf("first", MIB));
    await other.deleteImage("vol_b");
    assert.deepEqual(await findCephDebris(observer), []);
  });

  test("a writer that was frozen, and goes on after another host took its volume over, writes nothing more", async () => {
    await lost.createImage("vol_a", { sizeBytes: 4 * MIB });
    const device = await lost.attach("vol_a", "rw");
    await writeDevice(device.path, patternOf("acknowledged", MIB), 0);
    const daemon = await serverOf(options[0], device);
    await freezeProcess(daemon);
    // It is under way, and waits for what is frozen.
    const late = writeDevice(device.path, patternOf("late", 2 * MIB), MIB);
    const refused = assert.rejects(late, { code: "EIO" });
    await other.fence(lost.clientInstance);
    await other.fence(lost.clientInstance);
    const taken = await other.attach("vol_a", "rw");
    await writeDevice(taken.path, patternOf("taken over", MIB), 3 * MIB);
    process.kill(daemon, "SIGCONT");
    await refused;
    await assert.rejects(writeDevice(device.path, patternOf("later", MIB), 0), { code: "EIO" });
    await other.detach(taken);
    const expected = Buffer.concat([
      patternOf("acknowledged", MIB),
      Buffer.alloc(2 * MIB),
      patternOf("taken over", MIB),
    ]);
    assert.ok((await contentsOf(other, "vol_a")).equals(expected));
    // Nothing else of it goes through either, until it is opened again.
    await assert.rejects(lost.createImage("vol_b", { sizeBytes: MIB }), {
      code: "DISK_UNAVAILABLE",
      message: /taken over/,
    });
    await assert.rejects(lost.detach(device));
    await lost.close();
    lost = await CephStorage.open(options[0]);
    await lost.deleteImage("vol_a");
    assert.deepEqual(await findCephDebris(observer), []);
  });

  test("a host that lives reads a snapshot of an image on, whose writer is fenced", async () => {
    const third = await hostOptions(ceph);
    const reader = await CephStorage.open(third);
    try {
      const contents = patternOf("sealed", 4 * MIB);
      await lost.createImage("vol_a", { sizeBytes: 4 * MIB, pieces: [{ offset: 0, bytes: contents }] });
      await lost.sealImage("vol_a", "snp_a");
      const early = await reader.attach("snp_a", "ro");
      const device = await lost.attach("vol_a", "rw");
      await writeDevice(device.path, patternOf("later", MIB), 0);
      const late = await other.attach("snp_a", "ro");
      await other.fence(lost.clientInstance);
      await assert.rejects(writeDevice(device.path, patternOf("late", MIB), 0), { code: "EIO" });
      for (const { path } of [early, late]) assert.ok((await readDevice(path)).equals(contents));
      await assert.rejects(lost.detach(device));
      await other.detach(late);
      await reader.detach(early);
    } finally {
      await reader.close();
      await disposeHost(third);
    }
    await lost.close();
    lost = await CephStorage.open(options[0]);
    for (const id of ["snp_a", "vol_a"]) await lost.deleteImage(id);
    assert.deepEqual(await findCephDebris(observer), []);
  });

  /** Begins a call, has it wait at a fault point, and goes on with it after another one. */
  const overtake = async (tag: string, late: () => Promise<unknown>, quick: () => Promise<void>): Promise<void> => {
    await writeFile(tracePath, "");
    await writeFile(planPath, `${tag} 1 wait\n`);
    const waiting = late();
    waiting.catch(() => undefined);
    await eventually(`${tag} is reached`, async () => (await readFile(tracePath, "utf8")).includes(`${tag} 1`));
    await quick();
    await writeFile(planPath, "");
    await waiting;
  };

  test("of two hosts that attach an image read-write at once, one gets it and keeps it", async () => {
    await lost.createImage("vol_a", { sizeBytes: 4 * MIB });
    let device: BlockDevice | null = null;
    const attachOther = async (): Promise<void> => {
      device = await other.attach("vol_a", "rw");
    };
    const raced = overtake("storage.attach.claim:before", () => lost.attach("vol_a", "rw"), attachOther);
    await assert.rejects(raced, { code: "VOLUME_IN_USE", message: /another node/ });
    assert.equal(await lost.writerOf("vol_a"), other.clientInstance);
    assert.ok(device !== null);
    await writeDevice((device as BlockDevice).path, patternOf("kept", MIB), 0);
    await other.detach(device);
    assert.deepEqual((await contentsOf(lost, "vol_a")).subarray(0, MIB), patternOf("kept", MIB));
    await lost.deleteImage("vol_a");
  });

  test("an image that another host deletes while it is attached is gone, or is kept", async () => {
    await lost.createImage("vol_a", { sizeBytes: 4 * MIB });
    const attach = (): Promise<BlockDevice> => lost.attach("vol_a", "rw");
    const gone = overtake("storage.attach.claim:before", attach, () => other.deleteImage("vol_a"));
    await assert.rejects(gone, /there is no image vol_a/);
    assert.equal(await other.writerOf("vol_a"), null);
    for (const [tag, call] of [
      ["storage.delete.intent:before", () => other.deleteImage("vol_a")],
      ["storage.grow.commit:before", () => other.growImage("vol_a", 8 * MIB)],
    ] as const) {
      await lost.createImage("vol_a", { sizeBytes: 4 * MIB });
      let device: BlockDevice | null = null;
      const kept = overtake(tag, call, async () => {
        device = await attach();
      });
      await assert.rejects(kept, { code: "VOLUME_IN_USE", message: /another node/ });
      assert.ok(device !== null);
      await writeDevice((device as BlockDevice).path, patternOf("kept", MIB), 0);
      await lost.detach(device);
      assert.equal((await other.getImage("vol_a"))?.sizeBytes, 4 * MIB);
      await other.deleteImage("vol_a");
    }
    assert.deepEqual(await findCephDebris(observer), []);
  });

  test("a fence that fails anywhere is still to be done, and is done when it is repeated, also twice at once", async () => {
    const instance = lost.clientInstance;
    await lost.createImage("vol_a", { sizeBytes: MIB });
    await lost.createImage("scr_a", { sizeBytes: MIB, isEphemeral: true });
    const devices = [await lost.attach("vol_a", "rw"), await lost.attach("scr_a", "rw")];
    const tags = [
      "fence.mark",
      "fence.blocklist",
      "fence.locks",
      "delete.intent",
      "delete.reap",
      "fence.leave",
      "fence.forget",
    ];
    for (const tag of tags) {
      await writeFile(planPath, `storage.${tag}:after 1 fail:EIO\n`);
      await assert.rejects(other.fence(instance), /injected/);
      assert.equal(await other.writerOf("vol_a"), instance, tag);
    }
    await writeFile(planPath, "");
    await Promise.all([other.fence(instance), other.fence(instance)]);
    assert.equal(await other.getImage("scr_a"), null);
    assert.deepEqual(Object.keys(await observer.rows("writer/")), []);
    assert.deepEqual(Object.keys(await observer.rows("instance/")), [`instance/${other.clientInstance}`]);
    for (const device of devices) await assert.rejects(lost.detach(device));
    await other.deleteImage("vol_a");
    assert.deepEqual(await findCephDebris(observer), []);
    await lost.close();
    lost = await CephStorage.open(options[0]);
  });

  test("in a full pool images are deleted", async () => {
    await lost.createImage("vol_a", { sizeBytes: 4 * MIB, pieces: [{ offset: 0, bytes: patternOf("a", MIB) }] });
    await lost.sealImage("vol_a", "snp_a");
    await lost.createImage("vol_b", { sizeBytes: 4 * MIB, parent: "snp_a" });
    await setQuota(1);
    try {
      for (const id of ["vol_a", "snp_a", "vol_b"]) await lost.deleteImage(id);
      assert.deepEqual(await findCephDebris(observer), []);
    } finally {
      await setQuota(0);
    }
  });

  /** In bytes, 0 for none; until the pool is full, or is not. */
  const setQuota = async (bytes: number): Promise<void> => {
    await ceph.command("osd", "pool", "set-quota", ceph.pool, "max_bytes", String(bytes));
    await eventually("the cluster looks at the quota", async () => {
      const pools = JSON.parse(await ceph.command("osd", "pool", "ls", "detail", "--format", "json")) as Pool[];
      const flags = pools.find((pool) => pool.pool_name === ceph.pool)?.flags_names.split(",") ?? [];
      return flags.includes("full") === bytes > 0;
    });
  };

  test("what others have in the pool and in its trash stays", async () => {
    const rbd = (...args: readonly string[]): Promise<string> => runTool("rbd", ["--conf", ceph.conf, ...args]);
    const name = "backup.0123456789ab";
    await rbd("create", "--size", "1M", `${ceph.pool}/${name}`);
    await rbd("trash", "mv", `${ceph.pool}/${name}`);
    await lost.close();
    lost = await CephStorage.open(options[0]);
    const kept = await observer.trash();
    assert.deepEqual(
      kept.map((image) => image.name),
      [name],
    );
    for (const { id } of kept) await rbd("trash", "rm", `${ceph.pool}/${id}`);
  });

  test("a fence settles what the lost host was making, and of one that is open again it takes nothing", async () => {
    const earlier = lost.clientInstance;
    await lost.createImage("scr_a", { sizeBytes: MIB, isEphemeral: true });
    await other.fence(earlier);
    assert.equal(await other.getImage("scr_a"), null);
    await lost.close();
    lost = await CephStorage.open(options[0]);
    await lost.createImage("scr_b", { sizeBytes: MIB, isEphemeral: true });
    await other.fence(earlier);
    assert.notEqual(await lost.getImage("scr_b"), null);
    await assert.rejects(other.fence(other.clientInstance), /its own|server's own/);
  });

  test("a cluster that does not answer fails a call within its time, and the next one succeeds when it answers again", async () => {
    await lost.createImage("vol_a", { sizeBytes: 4 * MIB });
    await lost.close();
    const impatient = { ...options[0], answerTimeoutMs: 4000 };
    // On a busy machine it is what a call takes.
    lost = await untilDone(() => CephStorage.open(impatient));
    await ceph.freeze();
    try {
      await assert.rejects(lost.createImage("vol_b", { sizeBytes: MIB }), {
        code: "DISK_UNAVAILABLE",
        message: /does not answer.*ceph -s/,
      });
    } finally {
      ceph.thaw();
    }
    await untilDone(() => lost.createImage("vol_b", { sizeBytes: MIB }));
    for (const id of ["vol_a", "vol_b"]) await untilDone(() => lost.deleteImage(id));
  });

  test("what is wrong with the settings is said with what to do", async () => {
    const { conf, user, pool } = ceph;
    assert.equal(await checkCeph({ conf, user, pool }), null);
    assert.match((await checkCeph({ conf, user, pool: "none" })) ?? "", /no pool none.*ceph osd pool create/);
    assert.match((await checkCeph({ conf, user, pool, namespace: "none" })) ?? "", /namespace create volumes\/none/);
    assert.match((await checkCeph({ conf, user: "nobody", pool })) ?? "", /keyring.*client.nobody/);
    assert.match((await checkCeph({ conf: "/none/ceph.conf", user, pool })) ?? "", /no such file/);
    const directory = join(options[0].directory, "elsewhere");
    await mkdir(directory);
    const foreign = { owner: "host-x", fsid: "00000000-0000-0000-0000-000000000000", pool };
    await writeFile(join(directory, "ceph.json"), JSON.stringify(foreign));
    await assert.rejects(CephStorage.open({ ...options[0], directory }), {
      code: "DISK_UNAVAILABLE",
      message: /leads to the cluster .* and this server's images are in the cluster 00000000/,
    });
    await rm(directory, { recursive: true });
  });

  test("a namespace of a pool is a pool of its own", async () => {
    await runTool("rbd", ["--conf", ceph.conf, "namespace", "create", `${ceph.pool}/tests`]);
    const inside = { ...(await hostOptions(ceph)), namespace: "tests" };
    const storage = await CephStorage.open(inside);
    try {
      await lost.createImage("vol_a", { sizeBytes: MIB });
      assert.deepEqual(await Array.fromAsync(storage.listImages()), []);
      await storage.createImage("vol_a", { sizeBytes: 2 * MIB });
      const device = await storage.attach("vol_a", "rw");
      await writeDevice(device.path, patternOf("inside", MIB), 0);
      await storage.detach(device);
      assert.equal((await storage.capacity()).disks[0]?.directory, "ceph:volumes/tests");
      for (const driver of [storage, lost]) await driver.deleteImage("vol_a");
    } finally {
      await storage.close();
      await disposeHost(inside);
    }
  });
});

interface Pool {
  readonly pool_name: string;
  readonly flags_names: string;
}

async function eventually(what: string, isTrue: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + testTimeoutMs(120_000);
  while (!(await isTrue())) {
    if (performance.now() > deadline) throw new Error(`not so in time: ${what}`);
    await delay(20);
  }
}

/** Tries again while the cluster does not answer in time. */
async function untilDone<T>(task: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + testTimeoutMs(120_000);
  for (;;) {
    try {
      return await task();
    } catch (error) {
      const isLate = error instanceof CaissonError && error.code === "DISK_UNAVAILABLE";
      if (!isLate || performance.now() > deadline) throw error;
    }
  }
}

/** The process that serves the image of a device as a file. */
async function serverOf({ directory }: CephStorageOptions, { imageId }: BlockDevice): Promise<number> {
  const [name = ""] = (await readdir(join(directory, "served"))).filter((file) => file.startsWith(`${imageId}.`));
  for (const pid of (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry))) {
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (command.startsWith("qemu-storage-daemon") && command.includes(name)) return Number(pid);
  }
  throw new Error(`no process serves ${name}`);
}
