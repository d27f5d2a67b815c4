import assert from "node:assert/strict";
import { afterEach, beforeEach, suite, test } from "node:test";
import { CaissonError } from "@caisson/model";
import type { Disk, NewDisk, Store } from "../src/store.ts";
import type { StoreHarness } from "./conformance.ts";
import { SAMPLE_ORGANIZATION, SAMPLE_OWNER, sampleDisk, sampleEvent, sampleNode, sampleUsage } from "./samples.ts";

const EVERY_MS = 300_000;

/** What the database seam promises of snapshots that the server makes by itself. */
export function scheduleConformance(name: string, open: () => Promise<StoreHarness>): void {
  suite(`store, schedules: ${name}`, () => {
    let harness: StoreHarness;
    let store: Store;
    const organizationId = SAMPLE_ORGANIZATION;
    const { nodeId } = SAMPLE_OWNER;
    const result = { manifest: "manifests/org_a/snp", storedBytes: 30, readBytes: 100, sentBytes: 20 };

    const told = async (id: string, verb: string): Promise<number> =>
      (await store.events.list(organizationId, id, 100)).filter((one) => one.verb === verb).length;
    const commit = (disk: NewDisk): Promise<Disk> =>
      store.disks.commit(disk.id, { ...sampleUsage(), consistency: disk.consistency }, sampleEvent(disk.id, "create"));
    const make = async (slug: string, values: Partial<NewDisk> = {}): Promise<Disk> => {
      const disk = sampleDisk({ organizationId, slug, ...values });
      await store.disks.reserve(disk);
      return commit(disk);
    };
    const snapshotOf = ({ id, slug }: Disk, name: string, createdAtMs: number) => ({
      ...sampleDisk({ organizationId, slug: name, kind: "snapshot", consistency: "frozen", createdAtMs }),
      owner: SAMPLE_OWNER,
      parent: { kind: "volume", id, slug } as const,
    });
    /** A snapshot of the schedule, which must be due then. */
    const automatic = async (volume: Disk, name: string, atMs: number, isReplicated = true): Promise<Disk> => {
      const snapshot = snapshotOf(volume, name, atMs);
      assert.equal(await store.disks.reserveScheduled(snapshot, isReplicated), true, `${name} is not due`);
      return commit(snapshot);
    };
    const replicate = (id: string, atMs: number) =>
      store.disks.finishReplication(id, result, atMs, sampleEvent(id, "done"));
    const get = async (id: string): Promise<Disk> => {
      const disk = await store.disks.get(id);
      assert.ok(disk !== null);
      return disk;
    };
    const due = async (nowMs: number, regions = ["ord"]): Promise<readonly string[]> =>
      (await store.disks.listScheduled(nodeId, regions, nowMs, 10)).map(({ slug }) => slug);
    const schedule = (id: string, everyMs: number | null, nowMs: number) =>
      store.disks.setSchedule(id, everyMs, nowMs, sampleEvent(id, "schedule"));
    const thin = (id: string) => store.disks.thin(id, 9_000_000, sampleEvent(id, "thin"));

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

    test("a volume made with a schedule is due after a period, one that is given it at once, and one without never", async () => {
      const [made, given] = [await make("made", { everyMs: EVERY_MS }), await make("given")];
      assert.deepEqual(made.schedule, { nextAtMs: 1000 + EVERY_MS, error: null, attempts: 0 });
      assert.deepEqual([given.everyMs, given.schedule], [null, null]);
      assert.deepEqual(await due(1000), []);
      assert.equal((await schedule(given.id, 60_000, 2000)).schedule?.nextAtMs, 2000);
      assert.equal((await schedule(given.id, 60_000, 9000)).schedule?.nextAtMs, 2000, "it has it already");
      assert.equal(await told(given.id, "schedule"), 1);
      assert.deepEqual(await due(2000), ["given"]);
      assert.deepEqual(await due(1000 + EVERY_MS), ["given", "made"]);
      assert.deepEqual(await due(1e9, ["ams"]), []);
      store = await harness.reopen();
      assert.equal((await schedule(given.id, null, 3000)).schedule, null);
      assert.deepEqual(await due(1000 + EVERY_MS), ["made"]);
      await store.disks.delete(made.id, 1, 2, sampleEvent(made.id));
      assert.deepEqual(await due(1000 + EVERY_MS), []);
      const snapshot = await make("snapshot", { kind: "snapshot", consistency: "clean" });
      for (const id of [snapshot.id, made.id, "vol_none"])
        await assert.rejects(schedule(id, 60_000, 1), /There is no such volume/);
    });

    test("of two that make the snapshot of a schedule at once one does, and the next is due a period later, however late it was", async () => {
      const volume = await make("volume", { everyMs: EVERY_MS });
      const second = await harness.openSecond();
      const atMs = 20 * EVERY_MS;
      const both = [snapshotOf(volume, "one", atMs), snapshotOf(volume, "other", atMs)] as const;
      const taken = await Promise.all([
        store.disks.reserveScheduled(both[0], true),
        second.disks.reserveScheduled(both[1], true),
      ]);
      assert.deepEqual(taken.toSorted(), [false, true]);
      const mine = taken[0] ? both[0] : both[1];
      const committed = await commit(mine);
      assert.deepEqual(
        [committed.isAutomatic, committed.replication.state, committed.replication.retryAtMs],
        [true, "uploading", atMs],
      );
      assert.equal((await get(volume.id)).schedule?.nextAtMs, atMs + EVERY_MS);
      assert.equal(await second.disks.reserveScheduled(snapshotOf(volume, "late", atMs + EVERY_MS - 1), true), false);
      assert.equal(await second.disks.reserveScheduled(snapshotOf(volume, "next", atMs + EVERY_MS), true), true);
    });

    test("a snapshot that was not made is tried again, and one that is undone leaves the schedule as it was", async () => {
      const volume = await make("volume", { everyMs: EVERY_MS });
      const atMs = 1000 + EVERY_MS;
      await store.disks.failScheduled(volume.id, "the pool is full", atMs + 10);
      await store.disks.failScheduled(volume.id, "the pool is full", atMs + 20);
      const failed = { nextAtMs: atMs + 20, error: "the pool is full", attempts: 2 };
      assert.deepEqual((await get(volume.id)).schedule, failed);
      assert.equal((await store.disks.scheduleTotals(atMs)).failing, 1);
      const snapshot = snapshotOf(volume, "undone", atMs + 20);
      assert.equal(await store.disks.reserveScheduled(snapshot, true), true);
      await store.disks.withdraw(snapshot.id);
      const { state, retryAtMs } = (await get(snapshot.id)).replication;
      assert.deepEqual([state, retryAtMs], ["local", null], "the purge need not ask the snapshot store");
      await store.disks.forget(snapshot.id, null);
      assert.deepEqual((await get(volume.id)).schedule, failed);
      await automatic(volume, "made", atMs + 30);
      assert.deepEqual((await get(volume.id)).schedule, { nextAtMs: atMs + 30 + EVERY_MS, error: null, attempts: 0 });
      await make("taken");
      await assert.rejects(store.disks.reserveScheduled(snapshotOf(volume, "taken", atMs + 30 + EVERY_MS), true), {
        code: "SLUG_ALREADY_IN_USE",
      });
      await schedule(volume.id, null, 1);
      await store.disks.failScheduled(volume.id, "late", 5);
      assert.equal((await get(volume.id)).schedule, null);
      assert.equal(await store.disks.reserveScheduled(snapshotOf(volume, "off", 1e12), true), false);
    });

    test("a schedule that a clock was ahead for is due when the clock is right", async () => {
      const volume = await make("volume", { everyMs: EVERY_MS });
      await automatic(volume, "ahead", 1e12, false);
      assert.deepEqual(await due(1e12 + 1), []);
      assert.deepEqual(await due(5e9), ["volume"]);
      assert.equal(await store.disks.reserveScheduled(snapshotOf(volume, "right", 5e9), false), true);
    });

    test("of each schedule one snapshot waits for its upload: a later one takes over its turn, and its pause", async () => {
      const volume = await make("volume", { everyMs: EVERY_MS });
      const ids = async (nowMs: number) =>
        (await store.disks.listDueReplications(nodeId, ["ord"], nowMs, 10)).map(({ slug }) => slug);
      const first = await automatic(volume, "first", 1 * EVERY_MS + 1000);
      assert.deepEqual(await ids(1e12), ["first"]);
      await store.disks.failReplication(first.id, "the store is away", 5e9);
      const second = await automatic(volume, "second", 3 * EVERY_MS);
      assert.deepEqual(second.replication, {
        ...{ state: "failed", error: "the store is away", attempts: 1, retryAtMs: 5e9, atMs: null, result: null },
      });
      assert.equal((await get(first.id)).replication.state, "local");
      assert.deepEqual([await ids(5e9 - 1), await ids(5e9)], [[], ["second"]]);
      // An upload that was under way meanwhile counts all the same.
      await replicate(first.id, 5e9);
      assert.equal((await get(first.id)).replication.state, "replicated");
      await replicate(second.id, 6e9);
      const third = await automatic(volume, "third", 5 * EVERY_MS);
      assert.equal(third.replication.state, "uploading");
      assert.deepEqual([...(await store.disks.replicatedStates([volume.id, "vol_none"]))], [[volume.id, 3 * EVERY_MS]]);
      const local = await automatic(volume, "local", 7 * EVERY_MS, false);
      assert.deepEqual([local.replication.state, (await get(third.id)).replication.state], ["local", "uploading"]);
      assert.equal(await store.disks.requestReplications(nodeId, "ord", "all", 1), 0, "the schedule asks for its own");
      await assert.rejects(replicate(local.id, 1), { code: "SNAPSHOT_NOT_FOUND" });
    });

    test("an upload that lasts longer than the period counts its failure for the snapshot that has taken over its turn", async () => {
      const volume = await make("volume", { everyMs: EVERY_MS });
      const first = await automatic(volume, "first", 1 * EVERY_MS + 1000);
      const second = await automatic(volume, "second", 3 * EVERY_MS);
      const third = await automatic(volume, "third", 5 * EVERY_MS);
      await store.disks.failReplication(first.id, "the store is slow", 8e9);
      const failed = { state: "failed", error: "the store is slow", retryAtMs: 8e9, atMs: null, result: null } as const;
      assert.deepEqual((await get(third.id)).replication, { ...failed, attempts: 1 });
      await store.disks.failReplication(second.id, "the store is slow", 9e9);
      assert.deepEqual((await get(third.id)).replication, { ...failed, attempts: 2, retryAtMs: 9e9 });
      for (const { id } of [first, second]) assert.equal((await get(id)).replication.state, "local");
      await replicate(third.id, 1e10);
      await store.disks.failReplication(first.id, "late", 2e10);
      assert.deepEqual(
        [(await get(third.id)).replication.state, (await get(first.id)).replication.state],
        ["replicated", "local"],
      );
    });

    test("what is made from a snapshot keeps it from being thinned out, or is refused: one of the two at once", async () => {
      const second = await harness.openSecond();
      const volume = await make("volume", { everyMs: EVERY_MS });
      const snapshots: Disk[] = [];
      for (let index = 0; index < 12; index += 1)
        snapshots.push(await automatic(volume, `snapshot-${index}`, (2 * index + 2) * EVERY_MS, false));
      const childOf = ({ id, slug }: Disk): NewDisk =>
        sampleDisk({ organizationId, slug: `of-${slug}`, parent: { kind: "snapshot", id, slug } });
      const [thinned, kept, ...others] = snapshots.slice(0, -1);
      assert.ok(thinned !== undefined && kept !== undefined);
      const gone = { code: "SNAPSHOT_NOT_FOUND", message: /snapshot-0/ };
      assert.equal(await thin(thinned.id), true);
      await assert.rejects(store.disks.reserve(childOf(thinned)), gone);
      await store.disks.reserve(childOf(kept));
      assert.equal(await thin(kept.id), false);
      for (const snapshot of others) {
        const isMade = second.disks.reserve(childOf(snapshot)).then(
          () => true,
          (error: unknown) => {
            assert.ok(error instanceof CaissonError && error.code === "SNAPSHOT_NOT_FOUND", String(error));
            return false;
          },
        );
        const [made, isThinned] = await Promise.all([isMade, thin(snapshot.id)]);
        assert.equal(made, !isThinned, snapshot.slug);
      }
    });

    test("only what the schedule made and nothing needs is thinned out", async () => {
      const volume = await make("volume", { everyMs: EVERY_MS });
      const made: Disk[] = [];
      for (const [index, slug] of ["a", "labelled", "asked", "source", "replicated", "waits", "newest"].entries()) {
        made.push(await automatic(volume, slug, (2 * index + 2) * EVERY_MS, index >= 4));
        if (slug === "replicated") await replicate(made[index]?.id ?? "", 1);
      }
      const named = (slug: string): Disk => {
        const found = made.find((one) => one.slug === slug);
        assert.ok(found !== undefined);
        return found;
      };
      const [a, labelled, asked, source] = [named("a"), named("labelled"), named("asked"), named("source")];
      const [replicated, waits, newest] = [named("replicated"), named("waits"), named("newest")];
      const own = await make("own", {
        kind: "snapshot",
        consistency: "clean",
        parent: snapshotOf(volume, "x", 1).parent,
      });
      await store.disks.setLabels(labelled.id, {}, sampleEvent(labelled.id));
      await store.disks.requestReplication(asked.id, 1, null);
      const child = await make("child", { parent: { kind: "snapshot", id: source.id, slug: source.slug } });
      assert.deepEqual((await store.disks.listSnapshots(volume.id)).map(({ slug }) => slug).at(-1), "own");
      assert.deepEqual(await store.disks.listThinnable("", 10), [volume.id]);
      assert.deepEqual(await store.disks.listThinnable(volume.id, 10), []);
      assert.equal((await get(waits.id)).replication.state, "local", "its turn was taken over");
      for (const { id } of [own, labelled, asked, source, replicated]) assert.equal(await thin(id), false);
      assert.equal(await thin(a.id), true);
      assert.deepEqual((({ state, purgeAtMs }) => [state, purgeAtMs])(await get(a.id)), ["deleted", 9_000_000]);
      assert.equal(await told(a.id, "thin"), 1);
      assert.equal(await thin(a.id), false);
      assert.equal(await thin(newest.id), false, "it waits for its upload");
      assert.equal(await thin(waits.id), true);
      await replicate(newest.id, 2);
      assert.equal(await thin(replicated.id), true);
      assert.equal(await thin(newest.id), false, "the only one that is replicated");
      // What somebody brings back stays.
      assert.equal((await store.disks.restore(a.id, "back", sampleEvent(a.id))).isAutomatic, false);
      assert.equal(await thin(a.id), false);
      for (const { id } of [child, volume]) {
        await store.disks.delete(id, 1, 2, sampleEvent(id));
        await store.disks.beginPurge(SAMPLE_OWNER, 3);
      }
      assert.equal(await thin(source.id), true, "what was made from it is going");
      assert.equal(await thin(newest.id), false, "its volume is not gone yet");
      await store.disks.forget(volume.id, null);
      assert.equal(await thin(newest.id), true, "its volume is gone");
      assert.deepEqual(await store.disks.listThinnable("", 10), []);
    });

    test("the volumes with schedules are counted, and as of when the store has them", async () => {
      assert.deepEqual(await store.disks.scheduleTotals(1), {
        volumes: 0,
        failing: 0,
        late: 0,
        oldestReplicatedAtMs: null,
      });
      await make("without");
      const volume = await make("volume", { everyMs: EVERY_MS });
      await make("newer", { everyMs: EVERY_MS, createdAtMs: 5000 });
      const totals = { volumes: 2, failing: 0, oldestReplicatedAtMs: 1000 };
      assert.deepEqual(await store.disks.scheduleTotals(1000 + 3 * EVERY_MS), { ...totals, late: 0 });
      assert.deepEqual(await store.disks.scheduleTotals(1001 + 3 * EVERY_MS), { ...totals, late: 1 });
      await replicate((await automatic(volume, "snapshot", 2 * EVERY_MS)).id, 1e9);
      assert.deepEqual(await store.disks.scheduleTotals(5000 + 3 * EVERY_MS), {
        ...{ ...totals, late: 0, oldestReplicatedAtMs: 5000 },
      });
    });
  });
}
