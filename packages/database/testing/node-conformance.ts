import assert from "node:assert/strict";
import { afterEach, beforeEach, suite, test } from "node:test";
import { CaissonError, type ErrorCode } from "@caisson/model";
import { ownerOf } from "../src/records.ts";
import type { NewSandbox, Owner, Store } from "../src/store.ts";
import type { StoreHarness } from "./conformance.ts";
import {
  beginLapsed,
  SAMPLE_ORGANIZATION,
  sampleDisk,
  sampleEvent,
  sampleNode,
  samplePlaces,
  sampleSandbox,
  sampleUsage,
} from "./samples.ts";

const LEASE_MS = 60_000;
const PLACES = samplePlaces();
const organizationId = SAMPLE_ORGANIZATION;
const event = sampleEvent;
/** The node alone has the region of its name. */
const onlyOn = (nodeId: string, values: Partial<NewSandbox> = {}): NewSandbox =>
  sampleSandbox({ region: nodeId, ...values });
const fails = (code: ErrorCode, pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof CaissonError && error.code === code, String(error));
  assert.match(error.message, pattern);
  return true;
};

/** The part of the store's suite that is about nodes, their leases, and what belongs to them. */
export function nodeConformance(name: string, open: () => Promise<StoreHarness>): void {
  suite(`nodes in the store: ${name}`, () => {
    let harness: StoreHarness;
    let store: Store;
    const begin = async (id: string, values: Parameters<typeof sampleNode>[0] = {}) =>
      ownerOf(await store.nodes.begin(sampleNode({ id, regions: ["ord", id], ...values }), LEASE_MS));

    const make = async (owner: Owner, slug: string): Promise<string> => {
      const disk = sampleDisk({ organizationId, slug, owner });
      await store.disks.reserve(disk);
      await store.disks.commit(
        disk.id,
        { consistency: null, ...sampleUsage({ usageMeasuredAtMs: 1 }) },
        event(disk.id),
      );
      return disk.id;
    };
    const lapsed = (id: string) => beginLapsed(store, { id, regions: ["ord", id] });
    const reserved = async (id: string) => (await store.nodes.get(id))?.reserved;
    const nothing = { places: 0, memoryMib: 0 };

    beforeEach(async () => {
      harness = await open();
      store = harness.store;
      await store.organizations.create({ id: organizationId, slug: "a", createdAtMs: 1 }, event(organizationId));
    });
    afterEach(() => harness.dispose());

    test("a node is as it described itself last, and each run of it has the next generation", async () => {
      const node = sampleNode({
        regions: ["ord", "ams"],
        address: "10.0.0.1",
        labels: { rack: "a", "": 'x"y' },
        capacity: { places: 5, memoryMib: 4096 },
      });
      const first = await store.nodes.begin(node, LEASE_MS);
      const { isLive, isDraining, generation, reserved: taken } = first;
      assert.deepEqual([isLive, isDraining, generation, taken], [true, false, 1, nothing]);
      assert.equal(first.leaseUntilMs - first.startedAtMs, LEASE_MS);
      assert.equal(first.seenAtMs, first.startedAtMs);
      store = await harness.reopen();
      assert.deepEqual(await store.nodes.get(node.id), first);
      const moved = { ...node, address: "10.0.0.2", capacity: { places: 7, memoryMib: null }, runId: "run_moved" };
      const second = await store.nodes.begin(moved, LEASE_MS);
      assert.deepEqual([second.generation, second.address, second.capacity], [2, "10.0.0.2", moved.capacity]);
      await begin("nod_a");
      assert.deepEqual(
        (await store.nodes.list()).map(({ id }) => id),
        ["nod_a", node.id],
      );
      assert.equal(await store.nodes.get("nod_absent"), null);
    });

    test("runs of one node that begin at once in two stores get a generation each, and the last one alone goes on", async () => {
      const second = await harness.openSecond();
      const runs = await Promise.all(
        Array.from({ length: 12 }, (_, index) =>
          (index % 2 === 0 ? store : second).nodes.begin(sampleNode(), LEASE_MS),
        ),
      );
      const generations = runs.map(({ generation }) => generation).sort((a, b) => a - b);
      assert.deepEqual(
        generations,
        generations.map((_, index) => index + 1),
      );
      const renewals = await Promise.allSettled(
        runs.map((run, index) => (index % 2 === 0 ? second : store).nodes.renew(ownerOf(run), LEASE_MS, {})),
      );
      for (const [index, renewal] of renewals.entries())
        assert.equal(renewal.status === "fulfilled", runs[index]?.generation === 12);
    });

    test("a run that was replaced or forgotten learns it, and can begin nothing more", async () => {
      const stale = await begin("nod_a");
      const id = await make(stale, "cache");
      await store.disks.delete(id, 1, 2, event(id));
      const kept = await make(stale, "kept");
      await begin("nod_a");
      const isReplaced = fails("NODE_UNAVAILABLE", /nod_a has begun generation 2, and this is generation 1.*Stop one/);
      for (const attempt of [
        () => store.nodes.renew(stale, LEASE_MS, {}),
        () => store.disks.reserve(sampleDisk({ organizationId, slug: "new", owner: stale })),
        () => store.disks.beginGrow(stale, kept, 2e9),
        () => store.disks.beginPurge(stale, 5),
        () => store.disks.beginPurgeOf(stale, id),
        () => store.disks.reserve(sampleDisk({ organizationId, slug: "any", owner: null }), null, { own: stale }),
        () => store.sandboxes.reserve(onlyOn("nod_a"), [], PLACES, { own: stale }),
      ])
        await assert.rejects(attempt(), isReplaced);
      assert.deepEqual(
        [(await store.disks.get(id))?.state, (await store.disks.get(kept))?.growToBytes],
        ["deleted", null],
      );
      assert.deepEqual(await reserved("nod_a"), nothing);
      await assert.rejects(
        store.nodes.renew({ nodeId: "nod_b", generation: 1 }, LEASE_MS, {}),
        fails("NODE_UNAVAILABLE", /nod_b was forgotten.*remove node.json/),
      );
    });

    test("a run that begins again keeps its generation, and is as it describes itself now", async () => {
      const second = await harness.openSecond();
      const node = sampleNode();
      const begun = await Promise.all(
        Array.from({ length: 10 }, (_, index) => (index % 2 === 0 ? store : second).nodes.begin(node, LEASE_MS)),
      );
      assert.deepEqual(
        begun.map(({ generation }) => generation),
        begun.map(() => 1),
      );
      const later = await store.nodes.begin({ ...node, address: "10.0.0.9" }, LEASE_MS);
      assert.deepEqual([later.generation, later.address], [1, "10.0.0.9"]);
      assert.equal(later.startedAtMs, begun[0]?.startedAtMs);
      assert.equal((await store.nodes.begin(sampleNode(), LEASE_MS)).generation, 2);
      // An answer that comes late begins no run that was replaced: it is another one by then.
      assert.equal((await store.nodes.begin(node, LEASE_MS)).generation, 3);
    });

    test("a beginning counts anew what the node's sandboxes have, while some of them end", async () => {
      const second = await harness.openSecond();
      await begin("nod_a");
      const running = Array.from({ length: 12 }, () => onlyOn("nod_a"));
      for (const one of running) await store.sandboxes.reserve(one, [], PLACES);
      await Promise.all([
        ...running.slice(2).map(({ id }) => store.sandboxes.finish(id, "killed", 5, event(id))),
        ...Array.from({ length: 6 }, () => second.nodes.begin(sampleNode({ id: "nod_a" }), LEASE_MS)),
      ]);
      assert.deepEqual(await reserved("nod_a"), { places: 2, memoryMib: 2 * 1280 });
      await store.nodes.begin(sampleNode({ id: "nod_a" }), LEASE_MS);
      assert.deepEqual(await reserved("nod_a"), { places: 2, memoryMib: 2 * 1280 });
    });

    test("what the pools have free is as the node said last, and stays when it begins again", async () => {
      const owner = await begin("nod_a");
      assert.deepEqual((await store.nodes.get("nod_a"))?.freeBytes, {});
      const freeBytes = { ord: 2 ** 50, ams: 0 };
      await store.nodes.renew(owner, LEASE_MS, freeBytes);
      assert.deepEqual((await store.nodes.get("nod_a"))?.freeBytes, freeBytes);
      assert.deepEqual((await store.nodes.begin(sampleNode({ id: "nod_a" }), LEASE_MS)).freeBytes, freeBytes);
    });

    test("the store's clock decides whether a lease holds, and one that ran out is renewed", async () => {
      const owner = await beginLapsed(store, {});
      await store.nodes.renew(owner, LEASE_MS, {});
      const renewed = await store.nodes.get(owner.nodeId);
      assert.ok(renewed?.isLive);
      assert.equal(renewed.leaseUntilMs - renewed.seenAtMs, LEASE_MS);
      assert.ok(renewed.seenAtMs > renewed.startedAtMs, "it was seen later than it began");
    });

    test("a node that drains gets no new sandbox until it does no more, also after it has begun again", async () => {
      await begin("nod_a");
      const running = onlyOn("nod_a");
      await store.sandboxes.reserve(running, [], PLACES);
      const recorded = async () => (await store.events.list(organizationId, "nod_a", 9)).map(({ verb }) => verb);
      assert.equal((await store.nodes.setDraining("nod_a", true, event("nod_a", "drain"))).isDraining, true);
      assert.equal((await store.nodes.setDraining("nod_a", true, event("nod_a", "drain"))).isDraining, true);
      assert.deepEqual(await recorded(), ["drain"]);
      const draining = async () => {
        const outcome = await store.sandboxes.reserve(onlyOn("nod_a"), [], PLACES);
        return outcome.kind === "draining" && outcome.nodes.map(({ id }) => id);
      };
      assert.deepEqual(await draining(), ["nod_a"]);
      assert.equal((await store.sandboxes.commit(running.id, event(running.id))).status, "running");
      const second = await begin("nod_a");
      assert.deepEqual(await draining(), ["nod_a"]);
      await store.nodes.setDraining("nod_a", false, event("nod_a", "undrain"));
      assert.deepEqual(await store.sandboxes.reserve(onlyOn("nod_a"), [], PLACES), {
        kind: "reserved",
        owner: second,
      });
      assert.deepEqual(await recorded(), ["undrain", "drain"]);
      await assert.rejects(store.nodes.setDraining("nod_z", true, event("nod_z")), fails("NODE_NOT_FOUND", /"nod_z"/));
    });

    test("the address of a node is changed by its administrator, and not by a beginning that names none", async () => {
      const { address } = (await store.nodes.get((await begin("nod_a")).nodeId)) ?? assert.fail("it is not there");
      const recorded = async () => (await store.events.list(organizationId, "nod_a", 9)).map(({ verb }) => verb);
      await store.nodes.setAddress("nod_a", address, event("nod_a", "same"));
      assert.deepEqual(await recorded(), []);
      assert.equal(
        (await store.nodes.setAddress("nod_a", "10.0.0.9:1", event("nod_a", "moved"))).address,
        "10.0.0.9:1",
      );
      assert.deepEqual(await recorded(), ["moved"]);
      await begin("nod_a", { address: null });
      assert.equal((await store.nodes.get("nod_a"))?.address, "10.0.0.9:1");
      await assert.rejects(store.nodes.setAddress("nod_z", "a:1", event("nod_z")), fails("NODE_NOT_FOUND", /"nod_z"/));
    });

    test("reservations of two stores at once never take more of a node than it has, and each end gives back its part once", async () => {
      const second = await harness.openSecond();
      const capacity = { places: 10, memoryMib: 8 * 1280 + 100 };
      const [small, other] = [await begin("nod_a", { capacity }), await begin("nod_b")];
      const wanted = Array.from({ length: 30 }, () => onlyOn("nod_a"));
      const outcomes = await Promise.all(
        wanted.map((one, index) => (index % 2 === 0 ? store : second).sandboxes.reserve(one, [], PLACES)),
      );
      const taken = wanted.filter((_, index) => outcomes[index]?.kind === "reserved");
      assert.equal(taken.length, 8);
      assert.deepEqual(
        outcomes.find(({ kind }) => kind !== "reserved"),
        { kind: "memory", freeMib: 100, obstacles: [{ nodeId: "nod_a", obstacle: "memory" }] },
      );
      assert.deepEqual(await reserved("nod_a"), { places: 8, memoryMib: 8 * 1280 });
      for (const count of [9, 10]) {
        assert.deepEqual(await store.sandboxes.reserve(onlyOn("nod_a", { memoryMib: 50 }), [], PLACES), {
          kind: "reserved",
          owner: small,
        });
        assert.equal((await reserved("nod_a"))?.places, count);
      }
      assert.deepEqual(await store.sandboxes.reserve(onlyOn("nod_a", { memoryMib: 0 }), [], PLACES), {
        kind: "full",
        isKept: false,
        places: 10,
        kept: 0,
        obstacles: [{ nodeId: "nod_a", obstacle: "full" }],
      });
      assert.deepEqual(await store.sandboxes.reserve(onlyOn("nod_b"), [], PLACES), { kind: "reserved", owner: other });
      await Promise.all(
        taken.flatMap(({ id }) => [store, second].map((one) => one.sandboxes.finish(id, "killed", 5, event(id)))),
      );
      assert.deepEqual(await reserved("nod_a"), { places: 2, memoryMib: 100 });
      assert.deepEqual(await reserved("nod_b"), { places: 1, memoryMib: 1280 });
    });

    test("an organization's limit counts its sandboxes on all nodes", async () => {
      const second = await harness.openSecond();
      for (const id of ["nod_a", "nod_b"]) await begin(id);
      const outcomes = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          (index % 2 === 0 ? store : second).sandboxes.reserve(onlyOn(index % 4 < 2 ? "nod_a" : "nod_b"), [], {
            ...PLACES,
            perOrganization: 7,
          }),
        ),
      );
      assert.equal(outcomes.filter(({ kind }) => kind === "reserved").length, 7);
      assert.equal(outcomes.filter(({ kind }) => kind === "limit").length, 13);
    });

    test("a run finds what earlier ones of its node left, and nothing of its own or of other nodes", async () => {
      const [first, other] = [await begin("nod_a"), await begin("nod_b")];
      for (const owner of [first, other]) {
        const { nodeId } = owner;
        await store.disks.reserve(sampleDisk({ organizationId, slug: `creating-${nodeId.at(-1)}`, owner }));
        await store.disks.beginGrow(owner, await make(owner, `growing-${nodeId.at(-1)}`), 2e9);
        const gone = await make(owner, `purging-${nodeId.at(-1)}`);
        await store.disks.delete(gone, 1, 5, event(gone));
        assert.deepEqual(
          (await store.disks.beginPurge(owner, 5)).map(({ id }) => id),
          [gone],
        );
        await store.sandboxes.reserve(onlyOn(nodeId), [], PLACES);
      }
      const left = async (owner: Owner) => [
        (await store.disks.listUnsettled(owner)).map(({ slug }) => slug),
        (await store.sandboxes.listLeft(owner)).map(({ owner: { nodeId } }) => nodeId),
      ];
      const running = async (owner: Owner) =>
        (await store.sandboxes.listRunning(owner)).map(({ owner: { nodeId } }) => nodeId);
      assert.deepEqual(await left(first), [[], []]);
      assert.deepEqual([await running(first), await running(other)], [["nod_a"], ["nod_b"]]);
      const second = await begin("nod_a");
      assert.deepEqual(await running(second), []);
      const all = [["creating-a", "growing-a", "purging-a"], ["nod_a"]];
      assert.deepEqual(await left(second), all);
      // What was not settled, because that run was cut off too, is the next one's.
      assert.deepEqual(await left(await begin("nod_a")), all);
      assert.deepEqual(await left(other), [[], []]);
    });

    test("a node purges, measures and lists its own disks alone", async () => {
      const [mine, other] = [await begin("nod_a"), await begin("nod_b")];
      const [gone, theirs] = [await make(mine, "mine"), await make(other, "theirs")];
      const measured = async (owner: Owner) =>
        (await store.disks.listUnmeasured(owner.nodeId, ["ord"], 1000, 9)).map(({ id }) => id);
      assert.deepEqual([await measured(mine), await measured(other)], [[gone], [theirs]]);
      assert.deepEqual(await store.disks.listIds(mine.nodeId), [{ id: gone, region: "ord" }]);
      for (const [owner, id, exclusiveBytes] of [
        [mine, gone, 5],
        [other, theirs, 7],
      ] as const) {
        const { allocatedBytes, flattenedBytes, inodes, usedInodes } = (await store.disks.get(id)) ?? assert.fail(id);
        const usage = { allocatedBytes, flattenedBytes, inodes, usedInodes, exclusiveBytes, usageMeasuredAtMs: 3 };
        await store.disks.setUsage(id, usage);
        assert.equal((await store.disks.sumUsage(owner.nodeId, "ord")).volumesBytes, exclusiveBytes);
      }
      assert.deepEqual(
        (await store.disks.totals()).map(({ nodeId, count, exclusiveBytes }) => [nodeId, count, exclusiveBytes]),
        [
          ["nod_a", 1, 5],
          ["nod_b", 1, 7],
        ],
      );
      for (const id of [gone, theirs]) await store.disks.delete(id, 1, 5, event(id));
      const page = { limit: 9, after: null };
      assert.deepEqual(
        (await store.disks.listDeleted(mine.nodeId, "ord", 100, page)).map(({ id }) => id),
        [gone],
      );
      assert.equal(await store.disks.beginPurgeOf(mine, theirs), null);
      assert.deepEqual(
        (await store.disks.beginPurge(mine, 5)).map(({ id }) => id),
        [gone],
      );
      assert.equal((await store.disks.get(theirs))?.state, "deleted");
    });

    test("a node is forgotten when its lease is over and it has nothing, and else not, with what to do", async () => {
      await begin("nod_live");
      await assert.rejects(
        store.nodes.forget("nod_live", event("nod_live")),
        fails("NODE_IN_USE", /nod_live: it is live. Stop its server/),
      );
      const holder = await lapsed("nod_disk");
      const volume = await make(holder, "cache");
      await assert.rejects(store.nodes.forget("nod_disk", event("nod_disk")), fails("NODE_IN_USE", new RegExp(volume)));
      const runner = await lapsed("nod_run");
      const running = onlyOn("nod_run");
      await store.sandboxes.reserve(running, [], PLACES, { own: runner });
      await assert.rejects(
        store.nodes.forget("nod_run", event("nod_run")),
        fails("NODE_IN_USE", new RegExp(running.id)),
      );
      await store.sandboxes.finish(running.id, "killed", 5, event(running.id));
      await store.nodes.forget("nod_run", event("nod_run", "forget"));
      assert.equal((await store.events.list(organizationId, "nod_run", 9)).length, 1);
      await assert.rejects(store.nodes.forget("nod_run", event("nod_run")), fails("NODE_NOT_FOUND", /"nod_run"/));
      // Its generations would be those of the one that is gone.
      store = await harness.reopen();
      await assert.rejects(
        store.nodes.begin(sampleNode({ id: "nod_run" }), LEASE_MS),
        fails("NODE_UNAVAILABLE", /nod_run was forgotten.*remove node\.json/),
      );
      assert.deepEqual(
        (await store.nodes.list()).map(({ id }) => id),
        ["nod_disk", "nod_live"],
      );
    });

    test("of a node that is forgotten while it begins something, either stands and the other is refused", async () => {
      const second = await harness.openSecond();
      for (let round = 0; round < 10; round += 1) {
        const id = `nod_${round}`;
        const owner = await lapsed(id);
        const [forgotten, made] = await Promise.allSettled([
          second.nodes.forget(id, event(id)),
          store.disks.reserve(sampleDisk({ organizationId, slug: `volume-${round}`, owner })),
        ]);
        assert.deepEqual([forgotten.status, made.status].sort(), ["fulfilled", "rejected"], String(round));
      }
    });
  });
}
