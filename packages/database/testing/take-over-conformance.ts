import assert from "node:assert/strict";
import { afterEach, beforeEach, suite, test } from "node:test";
import type { NewDisk, NewSandbox, Owner, SharedPools, Store, TakeOverEvents } from "../src/store.ts";
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
const AWAY = "nod_away";
const poolOf = (instance: string, identity = "fsid/pool"): SharedPools => ({ ord: { identity, instance } });

/** What the database seam promises of a disk that another node takes over. */
export function takeOverConformance(name: string, open: () => Promise<StoreHarness>): void {
  suite(`store, disks that change their node: ${name}`, () => {
    let harness: StoreHarness;
    let store: Store;
    /** The run that is over. */
    let owner: Owner;
    const organizationId = SAMPLE_ORGANIZATION;

    const verbsOf = async (id: string) => (await store.events.list(organizationId, id, 9)).map(({ verb }) => verb);
    const make = async (slug: string, values: Partial<NewDisk> = {}): Promise<string> => {
      const disk = sampleDisk({ organizationId, slug, owner, ...values });
      await store.disks.reserve(disk);
      await store.disks.commit(disk.id, { ...sampleUsage(), consistency: null }, sampleEvent(disk.id, "create"));
      return disk.id;
    };
    const hold = async (volumes: readonly string[], values: Partial<NewSandbox> = {}): Promise<string> => {
      const sandbox = sampleSandbox({ region: "ord", ...values });
      const holds = volumes.map((volumeId) => ({ volumeId, isReadOnly: false }));
      const outcome = await store.sandboxes.reserve(sandbox, holds, samplePlaces(), { own: owner });
      assert.equal(outcome.kind, "reserved");
      return sandbox.id;
    };
    const eventsOf = (id: string): TakeOverEvents => ({
      disk: sampleEvent(id, "take-over"),
      sandbox: (sandbox) => sampleEvent(sandbox.id, "sandbox-end"),
    });
    const takeOver = (id: string, to: Owner = SAMPLE_OWNER, of: Omit<Store, "close"> = store) =>
      of.disks.takeOver(id, to, 99, eventsOf(id));
    const letGo = (id: string) => store.disks.takeOver(id, SAMPLE_OWNER, 99, eventsOf(id), "draining");
    const unavailable = (message: RegExp) => ({ code: "NODE_UNAVAILABLE", message });

    beforeEach(async () => {
      harness = await open();
      store = harness.store;
      const event = sampleEvent(organizationId, "x");
      await store.organizations.create({ id: organizationId, slug: "a", createdAtMs: 1 }, event);
      await store.nodes.begin(sampleNode({ sharedPools: poolOf("here.1") }), LEASE_MS);
      owner = await beginLapsed(store, { id: AWAY, runId: "run_away", sharedPools: poolOf("away.1") });
    });
    afterEach(() => harness.dispose());

    test("what a node shares is remembered by region, also while it says nothing of it", async () => {
      const shared = async () => (await store.nodes.get(SAMPLE_OWNER.nodeId))?.sharedPools;
      assert.deepEqual(await shared(), poolOf("here.1"));
      await store.nodes.renew(SAMPLE_OWNER, LEASE_MS, {});
      assert.deepEqual(await shared(), poolOf("here.1"));
      const ams = { ams: { identity: "fsid/other", instance: "here.2" } };
      await store.nodes.renew(SAMPLE_OWNER, LEASE_MS, {}, ams);
      await store.nodes.begin(sampleNode({ sharedPools: poolOf("here.3") }), LEASE_MS);
      assert.deepEqual(await shared(), { ...ams, ...poolOf("here.3") });
    });

    test("a disk is taken over with its line in the trail, and cannot be used until its former node is shut out", async () => {
      const id = await make("cache");
      const taken = await takeOver(id);
      assert.deepEqual([taken.owner, taken.takenFrom, taken.state], [SAMPLE_OWNER, ["away.1"], "ready"]);
      assert.deepEqual(await takeOver(id), taken, "repeated");
      assert.deepEqual(await verbsOf(id), ["take-over", "create"]);
      store = await harness.reopen();
      const holds = [{ volumeId: id, isReadOnly: false }];
      const reserve = () => store.sandboxes.reserve(sampleSandbox(), holds, samplePlaces());
      await assert.rejects(reserve(), unavailable(/is taking it over/));
      await assert.rejects(store.disks.beginGrow(SAMPLE_OWNER, id, 2e9), unavailable(/is taking it over/));
      assert.equal(await store.disks.settleTakeOver({ ...taken, takenFrom: [] }), false, "others have to be shut out");
      assert.equal(await store.disks.settleTakeOver({ ...taken, owner }), false, "it is another node's");
      assert.equal(await store.disks.settleTakeOver(taken), true);
      assert.deepEqual((await store.disks.get(id))?.takenFrom, []);
      const outcome = await reserve();
      assert.equal(outcome.kind === "reserved" && outcome.owner.nodeId, SAMPLE_OWNER.nodeId);
    });

    test("the run that it was taken from does nothing more, and the next run of its node does", async () => {
      const id = await make("cache");
      const kept = await make("kept");
      await takeOver(id);
      assert.equal((await store.nodes.get(AWAY))?.isShutOut, true);
      const shutOut = unavailable(/This run of node nod_away was shut out/);
      const again = sampleNode({ id: AWAY, runId: "run_away" });
      await assert.rejects(store.nodes.begin(again, LEASE_MS), shutOut);
      await assert.rejects(store.nodes.renew(owner, LEASE_MS, {}), shutOut);
      await assert.rejects(make("late"), shutOut);
      await assert.rejects(store.disks.beginGrow(owner, kept, 2e9), shutOut);
      // Others of its disks can be taken over, too.
      assert.deepEqual((await takeOver(kept)).takenFrom, ["away.1"]);
      const next = await store.nodes.begin(sampleNode({ id: AWAY, sharedPools: poolOf("away.2") }), LEASE_MS);
      assert.deepEqual([next.generation, next.isShutOut], [owner.generation + 1, false]);
      await store.nodes.renew({ ...owner, generation: next.generation }, LEASE_MS, {});
      assert.equal((await store.disks.get(id))?.owner.nodeId, SAMPLE_OWNER.nodeId);
    });

    test("a node whose lease holds keeps what it has, and of a renewal and a takeover at once one happens", async () => {
      const id = await make("cache");
      await store.nodes.renew(owner, LEASE_MS, {});
      await assert.rejects(takeOver(id), unavailable(/lease holds until/));
      const second = await harness.openSecond();
      const other = await beginLapsed(store, { id: "nod_third", sharedPools: poolOf("third.1") });
      const contested = await make("contested", { owner: other });
      const [taken, renewed] = await Promise.allSettled([
        takeOver(contested, SAMPLE_OWNER, second),
        store.nodes.renew(other, LEASE_MS, {}),
      ]);
      assert.equal([taken, renewed].filter(({ status }) => status === "fulfilled").length, 1);
      const disk = await store.disks.get(contested);
      assert.equal(disk?.owner.nodeId, taken.status === "fulfilled" ? SAMPLE_OWNER.nodeId : "nod_third");
    });

    test("a node that lives and drains lets go of volumes that nobody has, and is not shut out", async () => {
      const [free, held] = [await make("free"), await make("held")];
      const copy = await make("copy", { kind: "snapshot" });
      const growing = await make("growing");
      await store.nodes.renew(owner, LEASE_MS, {});
      await hold([held]);
      await store.disks.beginGrow(owner, growing, 2e9);
      await assert.rejects(letGo(free), unavailable(/only a live node that drains lets go/));
      await store.nodes.setDraining(AWAY, true, sampleEvent(AWAY));
      await assert.rejects(takeOver(free), unavailable(/lease holds/));
      const taken = await letGo(free);
      assert.deepEqual([taken.owner, taken.takenFrom], [SAMPLE_OWNER, []]);
      await assert.rejects(store.disks.beginGrow(owner, free, 2e9), unavailable(/nod_sample has it by now/));
      assert.deepEqual(await store.disks.get(free), taken);
      for (const id of [held, copy, growing]) await assert.rejects(letGo(id), unavailable(/lets go/));
      assert.equal((await store.nodes.get(AWAY))?.isShutOut, false);
      const later = await make("later");
      await store.nodes.begin(sampleNode({ id: AWAY, runId: "run_away" }), -1);
      await assert.rejects(letGo(later), unavailable(/only a live node/), "it may still write, and is not shut out");
    });

    test("of two nodes that take a disk over at once one has it", async () => {
      const id = await make("cache");
      const other = await store.nodes.begin(sampleNode({ id: "nod_other", sharedPools: poolOf("other.1") }), LEASE_MS);
      const second = await harness.openSecond();
      const both = await Promise.allSettled([
        takeOver(id),
        takeOver(id, { nodeId: other.id, generation: other.generation }, second),
      ]);
      const won = both.filter(({ status }) => status === "fulfilled");
      assert.equal(won.length, 1, "the second one's is live");
      assert.deepEqual((await store.disks.get(id))?.takenFrom, ["away.1"]);
    });

    test("a disk that is taken over twice before it was used is shut off from both", async () => {
      const id = await make("cache");
      const middle = await beginLapsed(store, { id: "nod_middle", sharedPools: poolOf("middle.1") });
      await takeOver(id, middle);
      assert.deepEqual((await takeOver(id)).takenFrom, ["away.1", "middle.1"]);
    });

    test("a disk that its node has not taken over yet goes on to another one, and that node is not shut out", async () => {
      const [id, settled] = [await make("cache"), await make("settled")];
      const third = await store.nodes.begin(sampleNode({ id: "nod_third", sharedPools: poolOf("third.1") }), LEASE_MS);
      const passOn = (disk: string) => {
        const to = { nodeId: third.id, generation: third.generation };
        return store.disks.takeOver(disk, to, 99, eventsOf(disk), "unsettled");
      };
      await assert.rejects(passOn(id), unavailable(/it has taken it over by now/));
      const taken = await takeOver(id);
      const passed = await passOn(id);
      assert.deepEqual([passed.owner.nodeId, passed.takenFrom], ["nod_third", ["away.1"]]);
      assert.deepEqual(await passOn(id), passed, "repeated");
      assert.deepEqual(await verbsOf(id), ["take-over", "take-over", "create"]);
      assert.equal((await store.nodes.get(SAMPLE_OWNER.nodeId))?.isShutOut, false);
      assert.equal(await store.disks.settleTakeOver(taken), false, "it is another node's");
      await store.disks.settleTakeOver(await takeOver(settled));
      await assert.rejects(passOn(settled), unavailable(/it has taken it over by now/));
    });

    test("only a node with the same pool takes a disk over", async () => {
      const id = await make("cache");
      const begin = async (nodeId: string, sharedPools: SharedPools): Promise<Owner> => {
        const { generation } = await store.nodes.begin(sampleNode({ id: nodeId, sharedPools }), LEASE_MS);
        return { nodeId, generation };
      };
      const elsewhere = await begin("nod_elsewhere", poolOf("x.1", "fsid/other"));
      await assert.rejects(
        takeOver(id, elsewhere),
        unavailable(/its pool is fsid\/pool, and that of .* is fsid\/other/),
      );
      await assert.rejects(takeOver(id, await begin("nod_none", {})), unavailable(/is not known/));
      await assert.rejects(takeOver(id, { ...SAMPLE_OWNER, generation: 9 }), unavailable(/generation/));
      const silent = await beginLapsed(store, { id: "nod_silent" });
      const unsaid = await make("unsaid", { owner: silent });
      await assert.rejects(takeOver(unsaid), unavailable(/has not said which pool it shares/));
      const unfinished = sampleDisk({ organizationId, slug: "unfinished", owner });
      await store.disks.reserve(unfinished);
      await assert.rejects(takeOver(unfinished.id), { code: "VOLUME_NOT_FOUND" });
      await assert.rejects(takeOver("vol_absent"), { code: "VOLUME_NOT_FOUND" });
      assert.equal((await store.nodes.get(AWAY))?.isShutOut, false, "a refusal changes nothing");
    });

    test("sandboxes that hold nothing else end with it, and others keep what waits for their node", async () => {
      const [one, two, near] = [await make("one"), await make("two"), await make("near")];
      const renewed = await store.nodes.begin(sampleNode({ id: AWAY, runId: "run_away" }), LEASE_MS);
      assert.equal(renewed.generation, owner.generation);
      const alone = await hold([one]);
      const both = await hold([two, near]);
      const { runId } = renewed;
      await store.nodes.begin(sampleNode({ id: AWAY, runId }), -1);
      await takeOver(one);
      await takeOver(two);
      const [ended, waiting] = [
        await store.sandboxes.get(organizationId, alone),
        await store.sandboxes.get(organizationId, both),
      ];
      assert.deepEqual([ended?.status, ended?.stopReason, ended?.stoppedAtMs], ["stopped", "node-lost", 99]);
      assert.deepEqual(await verbsOf(alone), ["sandbox-end"]);
      assert.equal(waiting?.status, "starting");
      assert.deepEqual(await store.sandboxes.holds(both), [{ volumeId: near, isReadOnly: false }]);
      assert.deepEqual(await store.sandboxes.holders(two), []);
      assert.equal((await store.nodes.get(AWAY))?.reserved.places, 1);
    });
  });
}
