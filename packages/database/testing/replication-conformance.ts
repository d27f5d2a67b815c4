import assert from "node:assert/strict";
import { afterEach, beforeEach, suite, test } from "node:test";
import type { Disk, NewDisk, Store } from "../src/store.ts";
import type { StoreHarness } from "./conformance.ts";
import { SAMPLE_ORGANIZATION, SAMPLE_OWNER, sampleDisk, sampleEvent, sampleNode, sampleUsage } from "./samples.ts";

/** What the database seam promises of snapshots that go to the snapshot store. */
export function replicationConformance(name: string, open: () => Promise<StoreHarness>): void {
  suite(`store, replication: ${name}`, () => {
    let harness: StoreHarness;
    let store: Store;
    const organizationId = SAMPLE_ORGANIZATION;
    const { nodeId } = SAMPLE_OWNER;
    const result = { manifest: "manifests/org_a/snp", storedBytes: 30, readBytes: 100, sentBytes: 20 };

    const told = async (id: string, verb: string): Promise<number> =>
      (await store.events.list(organizationId, id, 100)).filter((one) => one.verb === verb).length;
    const make = async (slug: string, values: Partial<NewDisk> = {}): Promise<Disk> => {
      const disk = sampleDisk({ organizationId, slug, kind: "snapshot", consistency: "clean", ...values });
      await store.disks.reserve(disk);
      const measured = { ...sampleUsage(), consistency: disk.consistency };
      return store.disks.commit(disk.id, measured, sampleEvent(disk.id, "create"));
    };
    const due = async (nowMs: number, regions = ["ord"]): Promise<readonly string[]> =>
      (await store.disks.listDueReplications(nodeId, regions, nowMs, 10)).map(({ slug }) => slug);
    const request = (id: string, nowMs: number) =>
      store.disks.requestReplication(id, nowMs, sampleEvent(id, "snapshot-replicate"));
    const replicationOf = async (id: string) => (await store.disks.get(id))?.replication;
    const notFound = { code: "SNAPSHOT_NOT_FOUND" };

    beforeEach(async () => {
      harness = await open();
      store = harness.store;
      await store.organizations.create(
        { id: organizationId, slug: "a", createdAtMs: 1 },
        sampleEvent(organizationId, "x"),
      );
      await store.nodes.begin(sampleNode(), 60_000);
    });
    afterEach(() => harness.dispose());

    test("a snapshot is local until somebody asks, fails and is due again, and is replicated once", async () => {
      const { id, replication } = await make("one");
      const nothing = { atMs: null, result: null, error: null, attempts: 0, retryAtMs: null };
      assert.deepEqual(replication, { state: "local", ...nothing });
      assert.deepEqual(await due(1000), []);
      assert.deepEqual((await request(id, 100)).replication, { state: "uploading", ...nothing, retryAtMs: 100 });
      assert.equal((await request(id, 900)).replication.retryAtMs, 100, "under way already");
      assert.equal(await told(id, "snapshot-replicate"), 1);
      assert.deepEqual(await due(99), []);
      assert.deepEqual(await due(100), ["one"]);
      assert.deepEqual(await due(100, ["other"]), []);
      for (const [attempts, retryAtMs] of [
        [1, 200],
        [2, 400],
      ] as const) {
        await store.disks.failReplication(id, "the store is full", retryAtMs);
        const failed = { state: "failed", ...nothing, error: "the store is full", attempts, retryAtMs };
        assert.deepEqual(await replicationOf(id), failed);
        assert.deepEqual(await due(retryAtMs - 1), []);
        assert.deepEqual(await due(retryAtMs), ["one"]);
      }
      assert.equal((await request(id, 300)).replication.state, "uploading", "asking tries at once");
      assert.deepEqual(await due(300), ["one"]);
      await store.disks.finishReplication(id, result, 500, sampleEvent(id, "done"));
      await store.disks.finishReplication(id, { ...result, sentBytes: 0 }, 600, sampleEvent(id, "done"));
      await store.disks.failReplication(id, "late", 700);
      assert.equal((await request(id, 800)).replication.state, "replicated");
      assert.deepEqual(await replicationOf(id), { state: "replicated", ...nothing, atMs: 500, result });
      assert.equal(await told(id, "done"), 1);
      assert.deepEqual(await due(1e9), []);
    });

    test("a region's snapshots are asked for together, all or those with the label", async () => {
      await make("plain");
      await make("labelled", { labels: { replicate: "true" } });
      await make("declined", { labels: { replicate: "false" } });
      await make("elsewhere", { region: "ams" });
      await make("volume", { kind: "volume", consistency: null });
      assert.equal(await store.disks.requestReplications("nod_other", "ord", "all", 5), 0);
      assert.equal(await store.disks.requestReplications(nodeId, "ord", "labelled", 5), 1);
      assert.deepEqual(await due(10), ["labelled"]);
      assert.equal(await store.disks.requestReplications(nodeId, "ord", "all", 6), 2);
      assert.equal(await store.disks.requestReplications(nodeId, "ord", "all", 7), 0);
      assert.deepEqual((await due(10)).toSorted(), ["declined", "labelled", "plain"]);
    });

    test("what is deleted is not uploaded, may become replicated while it can be restored, and not while it is purged", async () => {
      const { id } = await make("one");
      await request(id, 1);
      await store.disks.delete(id, 10, 20, sampleEvent(id, "delete"));
      assert.deepEqual(await due(100), []);
      await assert.rejects(request(id, 1), notFound);
      await store.disks.finishReplication(id, result, 15, sampleEvent(id, "done"));
      assert.equal((await replicationOf(id))?.state, "replicated");
      const { id: other } = await make("other");
      await request(other, 1);
      await store.disks.delete(other, 10, 20, sampleEvent(other, "delete"));
      await store.disks.beginPurge(SAMPLE_OWNER, 20);
      await assert.rejects(store.disks.finishReplication(other, result, 30, sampleEvent(other, "done")), notFound);
      await store.disks.forget(other, null);
      await assert.rejects(store.disks.finishReplication(other, result, 30, sampleEvent(other, "done")), notFound);
      await store.disks.failReplication(other, "late", 700);
    });

    test("the newest older replicated snapshot of the same volume on the same node is found", async () => {
      const parent = { kind: "volume", id: "vol_source", slug: "source" } as const;
      const other = { kind: "volume", id: "vol_other", slug: "other" } as const;
      const replicated = async (slug: string, values: Partial<NewDisk>) => {
        const disk = await make(slug, values);
        await request(disk.id, 1);
        await store.disks.finishReplication(disk.id, result, 5, sampleEvent(disk.id, "done"));
        return disk.id;
      };
      await replicated("first", { parent, createdAtMs: 10 });
      const second = await replicated("second", { parent, createdAtMs: 20 });
      await replicated("foreign", { parent: other, createdAtMs: 30 });
      await make("local", { parent, createdAtMs: 40 });
      const { id } = await make("own", { parent, createdAtMs: 50 });
      await replicated("later", { parent, createdAtMs: 60 });
      assert.equal((await store.disks.replicaBefore(id))?.id, second);
      await store.disks.delete(second, 70, 80, sampleEvent(second, "delete"));
      assert.equal((await store.disks.replicaBefore(id))?.slug, "first");
      assert.equal(await store.disks.replicaBefore((await make("without-parent", { parent: null })).id), null);
      assert.equal(await store.disks.replicaBefore("snp_absent"), null);
    });

    test("what is known of the snapshot store is kept, each part by itself", async () => {
      const rows = () => store.snapshotStore;
      assert.deepEqual(await rows().get(), { keyFingerprint: null, storeId: null, marks: [], keyRotation: null });
      await rows().remember({ marks: ["m1"] });
      await rows().remember({ keyFingerprint: "f" });
      await rows().remember({ storeId: "s1" });
      assert.deepEqual(await rows().get(), { keyFingerprint: "f", storeId: "s1", marks: ["m1"], keyRotation: null });
      await rows().remember({ marks: [] });
      store = await harness.reopen();
      assert.deepEqual(await rows().get(), { keyFingerprint: "f", storeId: "s1", marks: [], keyRotation: null });
      await rows().remember({ keyFingerprint: "g" }, sampleEvent("snapshot-store", "snapshot-store-key-rotate"));
      assert.equal((await rows().get()).keyFingerprint, "g");
      assert.equal(await told("snapshot-store", "snapshot-store-key-rotate"), 1);
    });

    test("how far a rotation of the key is stays until it is told otherwise, and another store changes nothing of it", async () => {
      const keyRotation = { stage: "waiting", newKeyFingerprint: "h", sinceMs: 1_700_000_000_000 } as const;
      await store.snapshotStore.remember({ keyRotation });
      await store.snapshotStore.remember({ keyFingerprint: "g" });
      await store.snapshotStore.accept({ storeId: "s3" }, 50, sampleEvent("snapshot-store", "snapshot-store-accept"));
      store = await harness.reopen();
      assert.deepEqual((await store.snapshotStore.get()).keyRotation, keyRotation);
      const finishing = { ...keyRotation, stage: "finishing" } as const;
      await store.snapshotStore.remember({ keyFingerprint: "h", keyRotation: finishing });
      assert.deepEqual((await store.snapshotStore.get()).keyRotation, finishing);
      await store.snapshotStore.remember({ keyRotation: null });
      assert.equal((await store.snapshotStore.get()).keyRotation, null);
      assert.equal((await store.snapshotStore.get()).keyFingerprint, "h");
    });

    test("when another store is accepted, what was replicated is to be uploaded, whatever is deleted meanwhile", async () => {
      const [one, gone, local] = [await make("one"), await make("gone"), await make("local")];
      for (const { id } of [one, gone]) {
        await request(id, 1);
        await store.disks.finishReplication(id, result, 5, sampleEvent(id, "done"));
      }
      await store.disks.delete(gone.id, 10, 20, sampleEvent(gone.id, "delete"));
      assert.equal(await store.snapshotStore.countReplicas(), 2);
      const event = sampleEvent("snapshot-store", "snapshot-store-accept");
      assert.equal(await store.snapshotStore.accept({ storeId: "s2", marks: ["m"] }, 50, event), 2);
      assert.deepEqual(await store.snapshotStore.get(), {
        keyFingerprint: null,
        storeId: "s2",
        marks: ["m"],
        keyRotation: null,
      });
      assert.equal(await store.snapshotStore.countReplicas(), 0);
      const nothing = { atMs: null, result: null, error: null, attempts: 0 };
      for (const { id } of [one, gone])
        assert.deepEqual(await replicationOf(id), { state: "uploading", ...nothing, retryAtMs: 50 });
      assert.equal((await replicationOf(local.id))?.state, "local");
      assert.deepEqual(await due(100), ["one"], "what is deleted is uploaded when it is restored");
      assert.equal(await told("snapshot-store", "snapshot-store-accept"), 1);
    });

    test("a replicated snapshot waits for its upload again when it is told to", async () => {
      const { id } = await make("one");
      const renew = () => store.disks.renewReplication(id, 70, sampleEvent(id, "renew"));
      assert.equal(await renew(), false);
      await request(id, 1);
      assert.equal(await renew(), false);
      await store.disks.finishReplication(id, { ...result, imageDigest: "d" }, 5, sampleEvent(id, "done"));
      assert.equal((await replicationOf(id))?.result?.imageDigest, "d");
      assert.equal(await renew(), true);
      const nothing = { atMs: null, result: null, error: null, attempts: 0 };
      assert.deepEqual(await replicationOf(id), { state: "uploading", ...nothing, retryAtMs: 70 });
      assert.equal(await told(id, "renew"), 1);
      assert.deepEqual(await due(70), ["one"]);
    });

    test("what waits for its upload is counted, with when the oldest was taken", async () => {
      const totals = () => store.snapshotStore.uploadTotals();
      assert.deepEqual(await totals(), { waiting: 0, failing: 0, oldestAtMs: null });
      const made: Disk[] = [];
      for (const [index, slug] of ["one", "two", "three", "gone"].entries())
        made.push(await make(slug, { createdAtMs: 5000 - index }));
      for (const { id } of made) await request(id, 1);
      await make("local", { createdAtMs: 1 });
      const [one, two, , gone] = made.map(({ id }) => id);
      await store.disks.delete(gone ?? "", 10, 20, sampleEvent(gone ?? ""));
      await store.disks.failReplication(two ?? "", "the store is away", 100);
      await store.disks.finishReplication(one ?? "", result, 5, sampleEvent(one ?? "", "done"));
      assert.deepEqual(await totals(), { waiting: 2, failing: 1, oldestAtMs: 4998 });
    });

    test("a volume is not replicated", async () => {
      const { id } = await make("volume", { kind: "volume", consistency: null });
      await assert.rejects(request(id, 1), notFound);
    });
  });
}
