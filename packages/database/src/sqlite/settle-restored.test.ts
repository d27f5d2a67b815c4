import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
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
} from "../../testing/samples.ts";
import type { Disk, NewDisk, Store } from "../store.ts";
import { type RestoredFrom, settleRestored } from "./settle-restored.ts";
import { openSqliteStore } from "./sqlite-store.ts";

const AT_MS = 1_000_000;

suite("rows of a backup on another machine", () => {
  let directory: string;
  let path: string;
  let store: Store;
  const organizationId = SAMPLE_ORGANIZATION;
  const make = async (slug: string, values: Partial<NewDisk> = {}): Promise<Disk> => {
    const disk = sampleDisk({ organizationId, slug, ...values });
    await store.disks.reserve(disk);
    const committed = { consistency: disk.consistency, ...sampleUsage() };
    return store.disks.commit(disk.id, committed, sampleEvent(disk.id, "create"));
  };
  const snapshotOf = (volume: Disk, slug: string, createdAtMs: number) =>
    make(slug, {
      ...{ kind: "snapshot", consistency: "clean", createdAtMs, owner: volume.owner },
      parent: { kind: "volume", id: volume.id, slug: volume.slug },
    });
  const replicate = async ({ id }: Disk): Promise<void> => {
    await store.disks.requestReplication(id, 1, null);
    const result = { manifest: `manifests/${organizationId}/${id}`, storedBytes: 9, readBytes: 9, sentBytes: 9 };
    await store.disks.finishReplication(id, result, 2, sampleEvent(id, "snapshot-replicated"));
  };
  const settle = async (stored: readonly Disk[], values: Partial<RestoredFrom> = {}) => {
    await store.close();
    const settled = settleRestored(path, {
      ...{ atMs: AT_MS, backupId: "b", newNodeId: null },
      stored: new Set(stored.map(({ id }) => `${organizationId}/${id}`)),
      damaged: new Set<string>(),
      isLost: ({ id }) => id === SAMPLE_OWNER.nodeId,
      ...values,
    });
    store = openSqliteStore(path);
    return settled;
  };
  const outcomes = (settled: Awaited<ReturnType<typeof settle>>) =>
    Object.fromEntries(settled.disks.map(({ slug, outcome, atMs }) => [slug, `${outcome} ${atMs}`]));

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-settle-"));
    path = join(directory, "rows.db");
    store = openSqliteStore(path);
    const organization = { id: organizationId, slug: "a", createdAtMs: 1 };
    await store.organizations.create(organization, sampleEvent(organizationId));
    await store.nodes.begin(sampleNode(), 60_000);
  });
  afterEach(async () => {
    await store.close();
    await rm(directory, { recursive: true });
  });

  test("volumes come back as of the newest of their snapshots that the store has, and what it has not is lost and told", async () => {
    const kept = await make("kept");
    const old = await snapshotOf(kept, "old", 100);
    const newer = await snapshotOf(kept, "newer", 200);
    const newest = await snapshotOf(kept, "newest-not-there", 300);
    const gone = await make("gone");
    const purged = await snapshotOf(gone, "purged", 400);
    for (const snapshot of [old, newer, purged]) await replicate(snapshot);
    const settled = await settle([old, newer]);
    assert.deepEqual(outcomes(settled), {
      ...{ kept: "from-snapshot 200", old: "stored 100", newer: "stored 200" },
      ...{ "newest-not-there": "lost null", gone: "lost null", purged: "purged null" },
    });
    const volume = await store.disks.get(kept.id);
    assert.match(volume?.lastError?.message ?? "", /as of 1970-01-01T00:00:00.200Z, from snapshot newer/);
    assert.deepEqual(volume?.baseSnapshot, { id: newer.id, slug: "newer" });
    for (const { id } of [newest, gone, purged]) assert.equal(await store.disks.get(id), null);
    const told = async (id: string) => (await store.events.list(organizationId, id, 1))[0]?.verb;
    assert.deepEqual(await Promise.all([kept, newest, gone, purged].map(({ id }) => told(id))), [
      "volume-restore-from-snapshot",
      "snapshot-lose",
      "volume-lose",
      "snapshot-purged",
    ]);
    const { id: nodeId, generation } = await store.nodes.begin(sampleNode(), 60_000);
    await make("gone", { owner: { nodeId, generation } });
    const query = { organizationId, kind: "volume", isDeleted: false, limit: 10, search: "gone" } as const;
    assert.equal((await store.disks.list(query)).length, 1, "its slug is free, and no search finds it");
  });

  test("a volume comes back as of the newest snapshot that is whole, and a damaged one stays and is told", async () => {
    const volume = await make("v");
    const whole = await snapshotOf(volume, "whole", 100);
    const cut = await snapshotOf(volume, "cut", 200);
    const worse = await make("w");
    const only = await snapshotOf(worse, "only", 300);
    const damaged = new Set([cut, only].map(({ id }) => `${organizationId}/${id}`));
    const settled = await settle([whole, cut, only], { damaged });
    assert.deepEqual(outcomes(settled), {
      ...{ v: "from-snapshot 100", whole: "stored 100", cut: "damaged 200" },
      ...{ w: "from-snapshot 300", only: "damaged 300" },
    });
    assert.equal((await store.disks.get(cut.id))?.replication.state, "replicated");
  });

  test("a run that was shut out of a shared pool before the backup stays so, and the next one of its node does not", async () => {
    const sharing = (instance: string) => ({ ord: { identity: "fsid/pool", instance } });
    await store.nodes.renew(SAMPLE_OWNER, 60_000, {}, sharing("heir.1"));
    const away = await beginLapsed(store, { id: "nod_away", runId: "run_away", sharedPools: sharing("away.1") });
    const { id } = await make("taken", { owner: away });
    const events = { disk: sampleEvent(id, "take-over"), sandbox: () => sampleEvent(id, "sandbox-end") };
    await store.disks.takeOver(id, SAMPLE_OWNER, 9, events);
    await settle([], { isLost: () => false });
    assert.deepEqual((await store.disks.get(id))?.takenFrom, ["away.1"]);
    const again = sampleNode({ id: away.nodeId, runId: "run_away" });
    await assert.rejects(store.nodes.begin(again, 60_000), { code: "NODE_UNAVAILABLE", message: /shut out/ });
    assert.equal((await store.nodes.begin(sampleNode({ id: away.nodeId }), 60_000)).isShutOut, false);
    assert.equal((await store.nodes.get(SAMPLE_OWNER.nodeId))?.isShutOut, false);
  });

  test("what was deleted can be brought back for a day from now on, on all nodes", async () => {
    const other = await store.nodes.begin(sampleNode({ id: "nod_other", address: "other:1" }), 60_000);
    const elsewhere = await make("elsewhere", { owner: { nodeId: other.id, generation: other.generation } });
    const volume = await make("v");
    const snapshot = await snapshotOf(volume, "s", 5);
    for (const { id } of [elsewhere, snapshot]) await store.disks.delete(id, 1, 2, sampleEvent(id));
    const nowMs = Date.now();
    await settle([snapshot]);
    for (const { id } of [elsewhere, snapshot]) {
      const disk = await store.disks.get(id);
      assert.equal(disk?.state, "deleted");
      assert.ok((disk?.purgeAtMs ?? 0) >= nowMs + 24 * 3_600_000, `${disk?.purgeAtMs}`);
    }
  });

  test("what was being made on a node that goes on is not taken for its to undo", async () => {
    const other = await store.nodes.begin(sampleNode({ id: "nod_other", address: "other:1" }), 60_000);
    const owner = { nodeId: other.id, generation: other.generation };
    const made = sampleDisk({ organizationId, slug: "being-made", owner });
    await store.disks.reserve(made);
    const replica = await snapshotOf(await make("elsewhere", { owner }), "replica", 5);
    await replicate(replica);
    const { keptSnapshots } = await settle([]);
    assert.equal(await store.disks.get(made.id), null);
    assert.deepEqual(
      keptSnapshots.map(({ slug, organization }) => [slug, organization]),
      [["replica", "a"]],
    );
    const { generation } = await store.nodes.begin(sampleNode({ id: "nod_other", address: "other:1" }), 60_000);
    assert.deepEqual(await store.disks.listUnsettled({ nodeId: other.id, generation }), []);
    await make("being-made", { owner: { nodeId: other.id, generation } });
  });

  test("a snapshot that the store has is replicated, whether the rows knew it or not, and one more is counted", async () => {
    const volume = await make("v");
    const uploading = await snapshotOf(volume, "uploading", 1);
    await store.disks.requestReplication(uploading.id, 1, null);
    const settled = await settle([uploading, { ...uploading, id: "snp_later" }]);
    assert.equal(settled.unknownSnapshots, 1);
    const { replication } = (await store.disks.get(uploading.id)) ?? {};
    assert.equal(replication?.state, "replicated");
    assert.equal(replication?.result?.manifest, `manifests/${organizationId}/${uploading.id}`);
  });

  test("sandboxes of the lost machine have ended, and hold nothing; those of others go on", async () => {
    const other = await store.nodes.begin(sampleNode({ id: "nod_other", address: "other:1" }), 60_000);
    const owner = { nodeId: other.id, generation: other.generation };
    const volume = await make("v");
    const elsewhere = await make("elsewhere", { owner });
    const mine = sampleSandbox();
    const theirs = sampleSandbox();
    await store.sandboxes.reserve(mine, [{ volumeId: volume.id, isReadOnly: false }], samplePlaces());
    await store.sandboxes.reserve(theirs, [{ volumeId: elsewhere.id, isReadOnly: false }], samplePlaces());
    for (const { id } of [mine, theirs]) await store.sandboxes.commit(id, sampleEvent(id));
    const snapshot = await snapshotOf(volume, "s", 5);
    const settled = await settle([snapshot]);
    assert.equal(settled.endedSandboxes, 1);
    assert.deepEqual(settled.keptNodes, [{ id: "nod_other", address: "other:1" }]);
    const { status, stopReason, stoppedAtMs } = (await store.sandboxes.get(organizationId, mine.id)) ?? {};
    assert.deepEqual(
      { status, stopReason, stoppedAtMs },
      { status: "stopped", stopReason: "node-lost", stoppedAtMs: AT_MS },
    );
    assert.equal((await store.sandboxes.get(organizationId, theirs.id))?.status, "running");
    assert.deepEqual(
      [await store.sandboxes.holders(volume.id), (await store.sandboxes.holders(elsewhere.id)).length],
      [[], 1],
    );
    assert.ok((await store.disks.get(elsewhere.id)) !== null, "what other machines have is there");
    assert.deepEqual((await store.nodes.get(SAMPLE_OWNER.nodeId))?.reserved, { places: 0, memoryMib: 0 });
    const again = await store.nodes.begin(sampleNode(), 60_000);
    assert.ok(again.generation > 1_000_000, "no generation comes twice");
  });

  test("with all machines gone everything is the new node's, and none of them comes back", async () => {
    const other = await store.nodes.begin(sampleNode({ id: "nod_other", address: "other:1" }), 60_000);
    const elsewhere = await make("elsewhere", { owner: { nodeId: other.id, generation: other.generation } });
    const snapshot = await snapshotOf(elsewhere, "s", 5);
    await settle([snapshot], { isLost: () => true, newNodeId: "nod_new" });
    assert.equal((await store.disks.get(elsewhere.id))?.owner.nodeId, "nod_new");
    assert.deepEqual(await store.nodes.list(), []);
    await assert.rejects(store.nodes.begin(sampleNode({ id: "nod_other" }), 1), { code: "NODE_UNAVAILABLE" });
  });

  test("what was lost with a machine before the backup is the new node's like all else", async () => {
    const owner = await beginLapsed(store, { id: "nod_other", address: "other:1" });
    const elsewhere = await make("elsewhere", { owner });
    const snapshot = await snapshotOf(elsewhere, "s", 5);
    await store.nodes.giveUp(owner.nodeId, sampleEvent(owner.nodeId));
    const limits = { nowMs: 10, purgeAtMs: 20, afterSequence: 0, limit: 10 };
    await store.disks.lose(owner.nodeId, limits, ({ id }) => sampleEvent(id));
    await settle([snapshot], { isLost: () => true, newNodeId: "nod_new" });
    for (const { id } of [elsewhere, snapshot]) {
      const disk = await store.disks.get(id);
      assert.deepEqual([disk?.owner.nodeId, disk?.lostAtMs, disk?.purgeAtMs], ["nod_new", null, null]);
    }
    assert.deepEqual(await store.disks.beginPurgeLost(Date.now()), []);
  });
});
