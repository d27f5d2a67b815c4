import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { beginLapsed, sampleDisk, sampleEvent, sampleUsage } from "@caisson/database/testing";
import { newId } from "@caisson/model";
import { HEIR, LOST, lostNodeWorld, poolOf, unavailable } from "../../../testing/lost-node-world.ts";
import { drainNode } from "../nodes/node-drain.ts";
import { forgetNode } from "../nodes/node-forget.ts";

suite("who takes over a disk whose node is lost", () => {
  const world = lostNodeWorld();
  const { connect, make, rowOf, takeOver, plan, planOn, foundAway, closed, unanswered, described } = world;

  test("stays where it is when a new sandbox could not have all that it names in one place", async () => {
    foundAway(LOST);
    const heir = await connect(HEIR, poolOf("heir.1"));
    const other = await connect("nod_other", null);
    const volume = await make("data");
    const again = await make("again");
    await make("near", {}, "local");
    await make("at-other", { owner: other }, "local");
    await make("at-heir", { owner: heir }, "local");
    const far = newId("vol", "fra", "local");
    await world.store.disks.reserve(
      sampleDisk({ organizationId: "org_a", slug: "far", owner: heir, id: far, region: "fra" }),
    );
    await world.store.disks.commit(far, { ...sampleUsage(), consistency: null }, sampleEvent(far, "create"));

    await assert.rejects(plan("data", "near"), unavailable(/is on node nod_lost, which this server cannot reach/));
    await assert.rejects(plan("data", "at-other"), unavailable(/on node nod_other, which does not have its pool/));
    await assert.rejects(plan("data", "at-heir", "at-other"), unavailable(/uses what lies on one node/));
    await assert.rejects(plan("data", "data"), { code: "INVALID_CONFIG" });
    await assert.rejects(plan("data", "far"), { code: "REGION_MISMATCH" });
    await assert.rejects(planOn("builtin:other", "data"), /builtin:other/);
    await world.store.nodes.setDraining(HEIR, true, sampleEvent(HEIR));
    await assert.rejects(plan("data"), unavailable(/are being drained/));
    await assert.rejects(plan("data", "at-heir"), unavailable(/are being drained/));
    assert.equal((await rowOf(volume)).owner.nodeId, LOST);
    assert.equal((await world.store.nodes.get(LOST))?.isShutOut, false);
    assert.deepEqual(world.calls, []);

    // Where the rest is, also when another one has less to do.
    await world.store.nodes.setDraining(HEIR, false, sampleEvent(HEIR));
    await connect("nod_first", poolOf("first.1"));
    await plan("data", "at-heir", "again");
    assert.deepEqual(
      (await Promise.all([volume, again].map(rowOf))).map(({ owner }) => owner.nodeId),
      [HEIR, HEIR],
    );
  });

  test("goes with others to a node that has the pools of all of them, or stays", async () => {
    for (const id of [LOST, "nod_gone"]) foundAway(id);
    const shared = poolOf("gone.1", "fsid/other");
    const gone = await beginLapsed(world.store, {
      id: "nod_gone",
      address: "nod_gone:8485",
      sharedPools: { ord: shared },
    });
    const one = await make("one");
    await make("two", { owner: gone });
    await connect(HEIR, poolOf("heir.1"));
    await connect("nod_other", poolOf("other.1", "fsid/other"));
    await assert.rejects(plan("one", "two"), unavailable(/none has the pools of all that it is to be used with/));
    assert.equal((await rowOf(one)).owner.nodeId, LOST);
    assert.deepEqual(world.calls, []);
  });

  test("goes to no node that has said its pool but cannot use it now", async () => {
    foundAway(LOST);
    await connect("nod_closed", poolOf("closed.1"));
    await connect("nod_cut", poolOf("cut.1"));
    closed.add("nod_closed");
    unanswered.add("nod_cut");
    const [volume, again] = [await make("data"), await make("again")];
    await assert.rejects(takeOver(volume), unavailable(/cannot use it now: try again later/));
    await assert.rejects(plan("data"), unavailable(/cannot use it now: try again later/));
    assert.equal((await world.store.nodes.get(LOST))?.isShutOut, false);
    await connect(HEIR, poolOf("heir.1"));
    await plan("data");
    await takeOver(again);
    for (const disk of [volume, again]) assert.equal((await rowOf(disk)).owner.nodeId, HEIR);
    described.length = 0;
    await drainNode(world.control.app, world.actor, HEIR, true);
    for (const disk of [volume, again])
      assert.equal((await rowOf(disk)).owner.nodeId, HEIR, "also of a node that drains");
    assert.deepEqual(described, ["nod_closed", "nod_cut"], "once for all volumes");
    unanswered.delete("nod_cut");
    await drainNode(world.control.app, world.actor, HEIR, true);
    for (const disk of [volume, again]) assert.equal((await rowOf(disk)).owner.nodeId, "nod_cut");
  });

  test("stays with a node that answers again, though the last try to connect had failed", async () => {
    foundAway(LOST, true);
    const gone = await beginLapsed(world.store, {
      ...{ id: "nod_gone", address: "nod_gone:8485", sharedPools: { ord: poolOf("gone.1") } },
    });
    foundAway("nod_gone");
    const volume = await make("data");
    const other = await make("other", { owner: gone });
    await connect(HEIR, poolOf("heir.1"));
    await assert.rejects(takeOver(volume), unavailable(/its node nod_lost answers again/));
    await assert.rejects(plan("other", "data"), unavailable(/its node nod_lost answers again/));
    assert.deepEqual(await Promise.all([volume, other].map(rowOf)), [volume, other]);
    await assert.rejects(forgetNode(world.control.app, world.actor, LOST, { isLost: true }), {
      code: "NODE_IN_USE",
      message: /it answers this server again/,
    });
    for (const id of [LOST, "nod_gone"]) assert.equal((await world.store.nodes.get(id))?.isShutOut, false);
    foundAway(LOST);
    await plan("other", "data");
    for (const disk of [volume, other]) assert.equal((await rowOf(disk)).owner.nodeId, HEIR);
  });
});
