import assert from "node:assert/strict";
import { afterEach, beforeEach, suite, test } from "node:test";
import type { Disk, NewDisk, Owner, Store } from "../src/store.ts";
import type { StoreHarness } from "./conformance.ts";
import {
  beginLapsed,
  SAMPLE_ORGANIZATION,
  SAMPLE_OWNER,
  sampleDisk,
  sampleEvent,
  sampleNode,
  samplePlaces,
  sampleSandbox,
  sampleUsage,
} from "./samples.ts";

const LEASE_MS = 60_000;
const LOST = "nod_lost";

/** What the database seam promises of a node that is given up, and of what it had. */
export function lossConformance(name: string, open: () => Promise<StoreHarness>): void {
  suite(`store, lost nodes: ${name}`, () => {
    let harness: StoreHarness;
    let store: Store;
    let owner: Owner;
    const organizationId = SAMPLE_ORGANIZATION;
    const result = { manifest: "m", storedBytes: 3, readBytes: 2, sentBytes: 1 };

    const verbsOf = async (id: string) => (await store.events.list(organizationId, id, 9)).map(({ verb }) => verb);
    const make = async (slug: string, values: Partial<NewDisk> = {}): Promise<string> => {
      const disk = sampleDisk({ organizationId, slug, owner, ...values });
      await store.disks.reserve(disk, { key: `key-${slug}`, requestHash: Buffer.from(slug) });
      await store.disks.commit(disk.id, { ...sampleUsage(), consistency: null }, sampleEvent(disk.id, "create"));
      return disk.id;
    };
    const makeReplicated = async (slug: string): Promise<string> => {
      const id = await make(slug, { kind: "snapshot" });
      await store.disks.requestReplication(id, 1, null);
      await store.disks.finishReplication(id, result, 2, sampleEvent(id, "replicated"));
      return id;
    };
    const giveUp = () => store.nodes.giveUp(LOST, sampleEvent(LOST, "give-up"));
    const lose = async (batchSize = 100): Promise<readonly Disk[]> => {
      const all: Disk[] = [];
      for (let afterSequence = 0; ; ) {
        const batch = { nowMs: 1000, purgeAtMs: 2000, afterSequence, limit: batchSize };
        const lost = await store.disks.lose(LOST, batch, ({ id }) => sampleEvent(id, "lose"));
        if (lost.length === 0) return all;
        all.push(...lost);
        afterSequence = lost.at(-1)?.sequence ?? 0;
      }
    };
    const purging = async (nowMs: number) => (await store.disks.beginPurgeLost(nowMs)).map(({ id }) => id);

    beforeEach(async () => {
      harness = await open();
      store = harness.store;
      const event = sampleEvent(organizationId, "x");
      await store.organizations.create({ id: organizationId, slug: "a", createdAtMs: 1 }, event);
      await store.nodes.begin(sampleNode(), LEASE_MS);
      owner = await beginLapsed(store, { id: LOST });
    });
    afterEach(() => harness.dispose());

    test("a node whose lease holds is not given up; one that is given up begins nothing and gets nothing more", async () => {
      const live = sampleEvent(SAMPLE_OWNER.nodeId);
      await assert.rejects(store.nodes.giveUp(SAMPLE_OWNER.nodeId, live), { code: "NODE_IN_USE" });
      await assert.rejects(store.nodes.giveUp("nod_absent", live), { code: "NODE_NOT_FOUND" });
      assert.equal((await store.nodes.get(LOST))?.lostAtMs, null);
      const event = { ...sampleEvent(LOST, "give-up"), atMs: 77 };
      assert.equal((await store.nodes.giveUp(LOST, event)).lostAtMs, 77);
      assert.equal((await giveUp()).lostAtMs, 77, "lost already");
      assert.deepEqual(await verbsOf(LOST), ["give-up"]);
      store = await harness.reopen();
      const forgotten = { code: "NODE_UNAVAILABLE", message: /nod_lost was forgotten/ };
      await assert.rejects(store.nodes.begin(sampleNode({ id: LOST }), LEASE_MS), forgotten);
      await assert.rejects(store.nodes.renew(owner, LEASE_MS, {}), forgotten);
      await assert.rejects(make("late"), forgotten);
      assert.equal((await store.nodes.get(LOST))?.isLive, false);
    });

    test("what is lost is counted before, by what can be restored and what comes back", async () => {
      await make("cache");
      const deleted = await make("deleted");
      await store.disks.delete(deleted, 1, 5, sampleEvent(deleted));
      await make("copy", { kind: "snapshot" });
      await makeReplicated("far");
      await make("elsewhere", { owner: SAMPLE_OWNER });
      await store.disks.reserve(sampleDisk({ organizationId, slug: "unfinished", owner }));
      await store.sandboxes.reserve(sampleSandbox({ region: "ord" }), [], samplePlaces(), {
        own: owner,
        unreachable: [SAMPLE_OWNER.nodeId],
      });
      const loss = await store.disks.lossOf(LOST, 1);
      const volumeNames = [{ organization: "a", slug: "cache" }];
      assert.deepEqual(loss, { volumes: 2, snapshots: 1, replicatedSnapshots: 1, sandboxes: 1, volumeNames });
      assert.equal((await store.disks.lossOf("nod_absent", 9)).volumes, 0);
    });

    test("disks of a node that was given up are lost in batches, each with its event, and only then it is forgotten", async () => {
      const ids = [await make("cache"), await make("copy", { kind: "snapshot" }), await makeReplicated("far")];
      const growing = await make("growing");
      await store.disks.beginGrow(owner, growing, 4e9);
      const deleted = await make("deleted");
      await store.disks.delete(deleted, 1, 5, sampleEvent(deleted));
      const unfinished = sampleDisk({ organizationId, slug: "unfinished", owner });
      const key = { key: "unfinished", requestHash: Buffer.from("x") };
      await store.disks.reserve(unfinished, key);
      await assert.rejects(lose(), { code: "NODE_NOT_FOUND" }, "it was not given up");
      await giveUp();
      await assert.rejects(store.nodes.forget(LOST, sampleEvent(LOST)), { code: "NODE_IN_USE" });
      const elsewhere = await make("elsewhere", { owner: SAMPLE_OWNER });
      assert.equal((await lose(2)).length, 6);
      assert.deepEqual(await lose(), [], "repeated");
      const states = await Promise.all([...ids, growing, deleted, unfinished.id].map((id) => store.disks.get(id)));
      assert.deepEqual(
        states.map((disk) => [disk?.slug, disk?.state, disk?.lostAtMs, disk?.purgeAtMs, disk?.growToBytes]),
        [
          ["cache", "ready", 1000, 2000, null],
          ["copy", "ready", 1000, 2000, null],
          ["far", "ready", 1000, null, null],
          ["growing", "ready", 1000, 2000, null],
          ["deleted", "deleted", 1000, 5, null],
          ["unfinished", "purging", 1000, null, null],
        ],
      );
      for (const id of [...ids, deleted]) assert.equal((await verbsOf(id))[0], "lose", id);
      assert.deepEqual(await verbsOf(unfinished.id), []);
      assert.equal((await store.disks.get(elsewhere))?.lostAtMs, null);
      // Slug and key of what was never there are free.
      const again = sampleDisk({ organizationId, slug: "unfinished", owner: SAMPLE_OWNER });
      assert.equal((await store.disks.reserve(again, key)).existingId, null);
      await store.nodes.forget(LOST, { ...sampleEvent(LOST, "forget"), atMs: 88 });
      assert.equal(await store.nodes.get(LOST), null);
      store = await harness.reopen();
      assert.deepEqual(await store.nodes.listForgotten(), [{ id: LOST, address: "sample", forgottenAtMs: 88 }]);
      await store.nodes.setTold(LOST);
      await store.nodes.setTold(LOST);
      assert.deepEqual(await store.nodes.listForgotten(), []);
    });

    test("what is lost is not used, can be deleted, is not restored, and goes when its time has come", async () => {
      const cache = await make("cache");
      const deleted = await make("deleted");
      const far = await makeReplicated("far");
      await giveUp();
      await lose();
      await store.nodes.forget(LOST, sampleEvent(LOST));
      const hold = [{ volumeId: cache, isReadOnly: true }];
      await assert.rejects(store.sandboxes.reserve(sampleSandbox(), hold, samplePlaces()), {
        code: "DISK_LOST",
        message: /the node nod_lost that held it was forgotten on 1970-01-01T00:00:01/,
      });
      assert.deepEqual(
        (await store.disks.list({ organizationId, kind: "volume", isDeleted: false, limit: 9 })).map(
          ({ slug }) => slug,
        ),
        ["deleted", "cache"],
      );
      assert.equal(await store.disks.beginPurgeLostOf(deleted), null, "it is not deleted yet");
      await store.disks.delete(deleted, 1500, 3000, sampleEvent(deleted));
      await assert.rejects(store.disks.restore(deleted, "deleted", sampleEvent(deleted)), { code: "VOLUME_NOT_FOUND" });
      await store.disks.delete(far, 1500, 9000, sampleEvent(far));
      assert.equal((await store.disks.restore(far, "far", sampleEvent(far))).state, "ready");
      assert.deepEqual(await purging(1999), []);
      assert.deepEqual(await purging(2000), [cache]);
      assert.equal((await store.disks.beginPurgeLostOf(deleted))?.id, deleted);
      assert.deepEqual(await purging(1e12), [cache, deleted], "what is replicated stays");
      for (const id of [cache, deleted]) await store.disks.forget(id, sampleEvent(id, "purge"));
      assert.deepEqual(await purging(1e12), []);
    });

    test("a replicated snapshot gets another node, of several at once the same", async () => {
      const far = await makeReplicated("far");
      const copy = await make("copy", { kind: "snapshot" });
      await giveUp();
      await lose();
      const renewed = await store.disks.renewReplication(far, 1500, sampleEvent(far, "renew"));
      assert.equal(renewed, false, "nothing is left to upload it from");
      const other = await store.nodes.begin(sampleNode({ id: "nod_other" }), LEASE_MS);
      const second = await harness.openSecond();
      const [one, two] = await Promise.all([
        store.disks.rehome(far, SAMPLE_OWNER),
        second.disks.rehome(far, { nodeId: other.id, generation: other.generation }),
      ]);
      assert.deepEqual(one.owner, two.owner);
      assert.deepEqual([one.lostAtMs, one.purgeAtMs, one.replication.state], [null, null, "replicated"]);
      assert.deepEqual((await store.disks.rehome(copy, SAMPLE_OWNER)).owner, owner, "there is nothing to fetch");
      await assert.rejects(store.disks.rehome(far, { ...SAMPLE_OWNER, generation: 9 }), { code: "NODE_UNAVAILABLE" });
      await assert.rejects(store.disks.rehome("snp_absent", SAMPLE_OWNER), { code: "SNAPSHOT_NOT_FOUND" });
    });

    test("an upload that ends after its node was given up saves its snapshot", async () => {
      const late = await make("late", { kind: "snapshot" });
      await store.disks.requestReplication(late, 1, null);
      await giveUp();
      await lose();
      await store.disks.finishReplication(late, result, 1500, sampleEvent(late));
      assert.deepEqual(await purging(1e12), []);
      assert.equal((await store.disks.rehome(late, SAMPLE_OWNER)).purgeAtMs, null);
    });
  });
}
