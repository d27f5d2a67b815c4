import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { testTimeoutMs } from "@caisson/linux/testing";
import type { DiskPiece, Node, SandboxSpec } from "../src/node.ts";
import { TEST_REGION as region, TEST_BASE_IMAGE, type TestNode } from "./test-node.ts";

const MIB = 2 ** 20;
const never = new AbortController().signal;

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + testTimeoutMs(30_000);
  while (!(await isSo())) {
    assert.ok(performance.now() < deadlineMs, "it did not come about");
    await delay(5);
  }
}

/** The promises of `Node`, checked on one. `reach`: how the suite gets at the node under test, for example through text. */
export function describeNodeConformance(
  name: string,
  openTestNode: () => Promise<TestNode>,
  reach: (node: Node) => Node,
): void {
  describe(`node conformance: ${name}`, () => {
    let host: TestNode;
    let node: Node;

    before(async () => {
      host = await openTestNode();
      node = reach(host.node);
      await node.prepare();
    });
    after(async () => {
      const left = await node.listDisks(region);
      await host[Symbol.asyncDispose]();
      assert.deepEqual(left, [], "the tests delete what they make");
    });

    const createBlank = (id: string, sizeBytes = 64 * MIB) =>
      node.createDisk({ region, id, sizeBytes, source: null, inodes: null });
    const baseImage = async () => {
      const [described] = (await node.describe()).regions;
      const base = described?.baseImages.find((image) => image.name === TEST_BASE_IMAGE);
      assert.ok(base !== undefined, "the base image was imported");
      return base;
    };
    const specOf = async (id: string, volumeId: string, isReadOnly = false): Promise<SandboxSpec> => ({
      id,
      region,
      hostname: null,
      root: { kind: "image", imageId: (await baseImage()).imageId },
      mounts: [{ volumeId, path: "/v", isReadOnly }],
      limits: { memoryBytes: 256 * MIB, cpuCount: 1, pidsMax: 100, terminalsMax: 10 },
      env: {},
      egress: null,
    });
    const measure = (id: string) =>
      node.measureDisk({ region, id }, { baseImageId: null, maxExtents: null, known: null });

    test("it describes itself, and refuses a region that it has no pool of", async () => {
      const { runId, regions, labels, placeCount, retriedWorkCount } = await node.describe();
      assert.equal((await node.describe()).runId, runId);
      assert.match(runId, /^\S{16,64}$/);
      assert.deepEqual(
        regions.map((described) => described.name),
        [region],
      );
      assert.deepEqual(labels, { rack: "b4" });
      assert.equal(placeCount, host.runtime.placeCount);
      assert.equal(retriedWorkCount, 0);
      await assert.rejects(node.poolCapacity("ams"), { code: "REGION_UNAVAILABLE" });
      await assert.rejects(node.listDisks("ams"), { code: "REGION_UNAVAILABLE" });
    });

    test("a blank disk has a file system of its size, a repetition changes nothing, and deleting is success again and again", async () => {
      const id = "vol_ord_blank";
      await Promise.all([createBlank(id), createBlank(id)]);
      const first = await measure(id);
      assert.ok((first?.inodes?.inodes ?? 0) > 0);
      await createBlank(id);
      assert.deepEqual(await measure(id), first);
      assert.deepEqual(await node.getDisk({ region, id }), { sizeBytes: 64 * MIB });
      assert.deepEqual(await node.listDisks(region), [id]);
      assert.deepEqual(
        (await node.placesOf(region, [id, "vol_ord_other"])).map(({ problem }) => problem),
        [null, null],
      );
      assert.equal(await node.deleteDisk({ region, id }), "deleted");
      assert.equal(await node.deleteDisk({ region, id }), "deleted");
      assert.equal(await node.getDisk({ region, id }), null);
    });

    test("a disk grows with its file system, to the same size again too", async () => {
      const id = "vol_ord_grown";
      await createBlank(id);
      const before = await measure(id);
      await node.growDisk({ region, id }, 256 * MIB);
      await node.growDisk({ region, id }, 256 * MIB);
      const after = await measure(id);
      assert.deepEqual(await node.getDisk({ region, id }), { sizeBytes: 256 * MIB });
      assert.ok((after?.inodes?.inodes ?? 0) > (before?.inodes?.inodes ?? 0), "the file system did not grow");
      await node.deleteDisk({ region, id });
    });

    test("a clone of a base image that is larger has its file system grown, and a repetition leaves it alone", async () => {
      const id = "vol_ord_clone";
      const { imageId, sizeBytes } = await baseImage();
      const disk = { region, id, sizeBytes: 2 * sizeBytes, source: { imageId, sizeBytes }, inodes: null };
      await node.createDisk(disk);
      const made = await measure(id);
      await node.createDisk(disk);
      assert.deepEqual(await measure(id), made);
      await node.recoverDisk({ region, id }, []);
      await node.deleteDisk({ region, id });
      assert.equal(await measure(id), null);
      await node.recoverDisk({ region, id }, []);
    });

    test("a node without a pool that nodes share says so, and shuts nobody out", async () => {
      const { regions } = await node.describe();
      assert.equal(regions[0]?.shared, null);
      await assert.rejects(node.fence(region, "host-x.y"), {
        code: "DISK_UNAVAILABLE",
        message: /none that nodes share/,
      });
    });

    test("a snapshot is clean of a volume at rest and frozen of one that is written to, which goes on", async () => {
      const volumeId = "vol_ord_sealed";
      await createBlank(volumeId);
      const atRest = await node.sealDisk({ region, volumeId, snapshotId: "snp_ord_clean" });
      assert.equal(atRest.consistency, "clean");
      await node.startSandbox(await specOf("sbx_ord_writer", volumeId), never);
      assert.deepEqual(await node.listMountedDisks(region), [volumeId]);
      await writeFile(join(host.runtime.mountOf("sbx_ord_writer"), "file"), "before");
      const live = await node.sealDisk({ region, volumeId, snapshotId: "snp_ord_frozen" });
      assert.equal(live.consistency, "frozen");
      await writeFile(join(host.runtime.mountOf("sbx_ord_writer"), "file"), "after");
      await node.tendDisk({ region, id: volumeId });
      assert.deepEqual(await node.stopSandbox("sbx_ord_writer"), { damages: [] });
      assert.deepEqual(await node.listMountedDisks(region), []);

      const id = "vol_ord_restored";
      const source = { imageId: "snp_ord_frozen", sizeBytes: 64 * MIB };
      await node.createDisk({ region, id, sizeBytes: 64 * MIB, source, inodes: null });
      await node.startSandbox(await specOf("sbx_ord_reader", id, true), never);
      assert.equal(await readFile(join(host.runtime.mountOf("sbx_ord_reader"), "file"), "utf8"), "before");
      await node.stopSandbox("sbx_ord_reader");
      for (const made of [volumeId, id, "snp_ord_clean", "snp_ord_frozen"]) await node.deleteDisk({ region, id: made });
    });

    test("a sandbox starts once however often that is asked, is reached, and its end is told again to who asks again", async () => {
      const volumeId = "vol_ord_held";
      const id = "sbx_ord_once";
      await createBlank(volumeId);
      const spec = await specOf(id, volumeId);
      const [first, second] = await Promise.all([node.startSandbox(spec, never), node.startSandbox(spec, never)]);
      assert.deepEqual(second, first);
      assert.deepEqual(
        first.trace.map(({ step }) => step),
        ["mount", "echo"],
      );
      for (const connection of [node.openAgent(id), await node.connectInside(id, 80)]) {
        connection.write("hello");
        const [answer] = (await once(connection, "data")) as [Buffer];
        assert.equal(answer.toString(), "hello");
        connection.destroy();
      }
      await assert.rejects(node.connectInside(id, 81), { code: "ECONNREFUSED" });
      assert.equal(await node.ownEnd(id), null);
      assert.deepEqual(await node.listSandboxes(), [{ id, ownEnd: null }]);
      host.runtime.exit(id, "out-of-memory");
      assert.equal(await node.ownEnd(id), "out-of-memory");
      assert.deepEqual(await node.listSandboxes(), [{ id, ownEnd: "out-of-memory" }]);
      assert.deepEqual(await Promise.all([node.stopSandbox(id), node.stopSandbox(id)]), [
        { damages: [] },
        { damages: [] },
      ]);
      assert.deepEqual(await node.stopSandbox(id), { damages: [] });
      assert.deepEqual(await node.listSandboxes(), []);
      assert.deepEqual(
        host.events.filter((event) => event.kind === "sandbox-exited" && event.sandboxId === id),
        [{ kind: "sandbox-exited", sandboxId: id, cause: "out-of-memory" }],
      );
      const [error] = (await once(node.openAgent(id), "error")) as [Error & { readonly code?: string }];
      assert.equal(error.code, "SANDBOX_NOT_FOUND");
      await assert.rejects(node.connectInside(id, 80), { code: "SANDBOX_NOT_FOUND" });
      await node.deleteDisk({ region, id: volumeId });
    });

    test("what a start that fails or is aborted has made is given back by the end, also when that comes first", async () => {
      const volumeId = "vol_ord_failed";
      await createBlank(volumeId);
      host.runtime.failures.push(new Error("no start"));
      await assert.rejects(node.startSandbox(await specOf("sbx_ord_failed", volumeId), never), /no start/);
      assert.deepEqual(await node.listMountedDisks(region), [volumeId]);
      await node.stopSandbox("sbx_ord_failed");
      assert.deepEqual(await node.listMountedDisks(region), []);

      const client = new AbortController();
      const aborted = node.startSandbox(await specOf("sbx_ord_aborted", volumeId), client.signal);
      client.abort(new Error("left"));
      await assert.rejects(aborted, /left/);
      await node.stopSandbox("sbx_ord_aborted");

      const cut = node.startSandbox(await specOf("sbx_ord_cut", volumeId), never);
      const rejected = assert.rejects(cut, { code: "SANDBOX_START_FAILED" });
      await node.stopSandbox("sbx_ord_cut");
      await rejected;
      assert.deepEqual(await node.listMountedDisks(region), []);
      await node.deleteDisk({ region, id: volumeId });
    });

    test("an end answers before what only the host misses is given back, which is tried until it succeeds", async () => {
      const volumeId = "vol_ord_followed";
      const id = "sbx_ord_followed";
      await createBlank(volumeId);
      await node.startSandbox(await specOf(id, volumeId), never);
      host.runtime.releaseFailure = new Error("not yet");
      assert.deepEqual(await node.stopSandbox(id), { damages: [] });
      assert.deepEqual(await node.listMountedDisks(region), []);
      await until(async () => (await node.describe()).retriedWorkCount === 1);
      host.runtime.releaseFailure = null;
      await until(async () => (await node.describe()).retriedWorkCount === 0);
      assert.deepEqual(
        host.runtime.released.filter((released) => released === id),
        [id],
      );
      await node.deleteDisk({ region, id: volumeId });
    });

    test("an import whose caller leaves ends before its check, with the caller's reason, and leaves nothing", async () => {
      const source = "vol_ord_source";
      await createBlank(source);
      await node.sealDisk({ region, volumeId: source, snapshotId: "snp_ord_source" });
      const id = "snp_ord_left";
      const caller = new AbortController();
      async function* pieces(): AsyncGenerator<DiskPiece, void> {
        await using exported = await node.exportDisk({ region, id: "snp_ord_source" });
        yield* exported.pieces();
        caller.abort(new Error("the caller has left"));
      }
      await assert.rejects(node.importDisk({ region, id, sizeBytes: 64 * MIB }, pieces(), caller.signal), /has left/);
      assert.equal(await node.getDisk({ region, id }), null);
      await node.importDisk({ region, id, sizeBytes: 64 * MIB }, pieces(), never);
      for (const made of [source, id, "snp_ord_source"]) await node.deleteDisk({ region, id: made });
    });

    test("the root of a sandbox is not deleted under it", async () => {
      const { imageId, sizeBytes } = await baseImage();
      const id = "vol_ord_root";
      await node.createDisk({ region, id, sizeBytes, source: { imageId, sizeBytes }, inodes: null });
      await node.sealDisk({ region, volumeId: id, snapshotId: "snp_ord_root" });
      const spec = { ...(await specOf("sbx_ord_rooted", id)), mounts: [] };
      await node.startSandbox({ ...spec, root: { kind: "image", imageId: "snp_ord_root" } }, never);
      assert.equal(await node.deleteDisk({ region, id: "snp_ord_root" }), "in-use");
      await node.stopSandbox("sbx_ord_rooted");
      assert.equal(await node.deleteDisk({ region, id: "snp_ord_root" }), "deleted");
      await node.deleteDisk({ region, id });
    });

    test("it tells how full a pool is, what of it is its own, and makes room", async () => {
      const { totalBytes, disks } = await node.poolCapacity(region);
      assert.ok(totalBytes > 0);
      assert.deepEqual(
        disks.map(({ problem }) => problem),
        [null],
      );
      assert.ok((await node.ownPoolUsage(region)).builtInBytes > 0);
      await node.makeRoom(region);
      await assert.rejects(node.growPool(region, { sizeBytes: 1, disk: null }), { code: "INVALID_CAPACITY" });
    });
  });
}
