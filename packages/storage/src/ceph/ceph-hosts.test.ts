import assert from "node:assert/strict";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { runTool } from "@caisson/linux";
import { testTimeoutMs } from "@caisson/linux/testing";
import { CaissonError } from "@caisson/model";
import { disposeHost, findCephDebris, hostOptions } from "../../testing/ceph/ceph-test-pool.ts";
import { TestCeph } from "../../testing/ceph/test-ceph.ts";
import { MIB, patternOf, readDevice, writeDevice } from "../../testing/device-io.ts";
import type { BlockDevice } from "../driver.ts";
import { CephStorage, type CephStorageOptions } from "./ceph-storage.ts";
import { checkCeph } from "./check-ceph.ts";
import { RbdClient } from "./rbd-client.ts";

describe("hosts that share a Ceph pool", () => {
  let ceph: TestCeph;
  let observer: RbdClient;
  let options: readonly [CephStorageOptions, CephStorageOptions];
  let [lost, other]: [CephStorage, CephStorage] = [] as never;

  before(async () => {
    ceph = await TestCeph.start();
    const { conf, user, pool } = ceph;
    observer = await RbdClient.open({ conf, user, pool, answerTimeoutMs: testTimeoutMs(120_000) });
  });
  after(async () => {
    await observer.close();
    await ceph.stop();
  });
  beforeEach(async () => {
    options = [await hostOptions(ceph), await hostOptions(ceph)];
    [lost, other] = [await CephStorage.open(options[0]), await CephStorage.open(options[1])];
  });
  afterEach(async () => {
    await lost.close();
    await other.close();
    for (const host of options) await disposeHost(host);
  });

  const contentsOf = async (storage: CephStorage, id: string): Promise<Buffer> => {
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
    process.kill(daemon, "SIGSTOP");
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
    ceph.freeze();
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
