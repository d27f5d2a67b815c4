import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { sampleDisk, sampleEvent } from "@caisson/database/testing";
import { newId } from "@caisson/model";
import { HEIR, LOST, lostNodeWorld, poolOf } from "../../../testing/lost-node-world.ts";
import { ADMIN_ORGANIZATION } from "../access/administrator.ts";
import { purgeDisk } from "../disks/disk-purge.ts";
import { drainNode } from "./node-drain.ts";
import { forgetNode, getNodeLoss } from "./node-forget.ts";
import { forgetLostNodes } from "./node-loss.ts";

suite("disks that nodes share", () => {
  const world = lostNodeWorld();
  const { connect, make, rowOf, foundAway } = world;

  test("a node that drains gives volumes that nobody has to another one, and nobody is shut out", async () => {
    const volume = await make("data");
    const local = await make("near", {}, "local");
    const snapshot = await make("copy", { kind: "snapshot" });
    world.lost = await connect(LOST, poolOf("lost.2"));
    const drain = () => drainNode(world.control.app, world.actor, LOST, true);
    await drain();
    assert.equal((await rowOf(volume)).owner.nodeId, LOST, "there is no other one");
    await connect(HEIR, poolOf("heir.1"));
    await world.store.nodes.setDraining(HEIR, true, sampleEvent(HEIR));
    await drain();
    assert.equal((await rowOf(volume)).owner.nodeId, LOST, "the other one drains");
    await world.store.nodes.setDraining(HEIR, false, sampleEvent(HEIR));
    await drain();
    const nodes = (await Promise.all([volume, local, snapshot].map(rowOf))).map(({ owner }) => owner.nodeId);
    assert.deepEqual(nodes, [HEIR, LOST, LOST]);
    assert.equal((await world.store.nodes.get(LOST))?.isShutOut, false);
    assert.deepEqual(world.calls, []);
    const [event] = await world.store.events.list("org_a", volume.id, 1);
    assert.deepEqual([event?.verb, event?.detail.isDraining], ["volume-take-over", true]);
  });

  test("a node that is forgotten as lost gives what it shares to another one, and only with such a one it is", async () => {
    foundAway(LOST);
    const volume = await make("data");
    const local = await make("near", {}, "local");
    const deleted = await make("deleted");
    await world.store.disks.delete(deleted.id, 1, 9e15, sampleEvent(deleted.id));
    const unfinished = newId("vol", "ord", "replicated");
    await world.store.disks.reserve(
      sampleDisk({ organizationId: "org_a", slug: "unfinished", owner: world.lost, id: unfinished }),
    );
    const { volumes, volumeNames } = await getNodeLoss(world.control.app, world.actor, LOST);
    assert.deepEqual([volumes, volumeNames], [1, [{ organization: ADMIN_ORGANIZATION, slug: "near" }]]);
    const forget = () => forgetNode(world.control.app, world.actor, LOST, { isLost: true });
    await assert.rejects(forget(), {
      code: "NODE_IN_USE",
      message: /lost yet: .* no other node of region ord has its pool/,
    });
    assert.equal((await world.store.nodes.get(LOST))?.lostAtMs, null);
    await connect(HEIR, poolOf("heir.1"));
    await forget();
    assert.equal(await world.store.nodes.get(LOST), null);
    assert.deepEqual(
      (await Promise.all([volume, deleted, { id: unfinished }].map(rowOf))).map(({ owner, state, lostAtMs }) => [
        owner.nodeId,
        state,
        lostAtMs,
      ]),
      [
        [HEIR, "ready", null],
        [HEIR, "deleted", null],
        [HEIR, "purging", null],
      ],
    );
    assert.notEqual((await rowOf(local)).lostAtMs, null);
    assert.equal(await purgeDisk(world.control.app, await rowOf({ id: unfinished })), true);
    assert.ok(world.calls.includes(`${HEIR} deleteDisk ${unfinished}`));
  });

  test("a node that was given up hands over what it shares also when the server has left it, as the next one has", async () => {
    await connect(HEIR, poolOf("heir.1"));
    const volume = await make("data");
    await world.store.nodes.giveUp(LOST, sampleEvent(LOST));
    assert.equal(world.control.app.nodes.isKnownAway(LOST, { host: LOST, port: 8485 }), false);
    await forgetLostNodes(world.control.app);
    const { owner, state, lostAtMs } = await rowOf(volume);
    assert.deepEqual([owner.nodeId, state, lostAtMs], [HEIR, "ready", null]);
    assert.equal(await world.store.nodes.get(LOST), null);
    assert.deepEqual(world.calls, [`${HEIR} fence lost.1`, `${HEIR} recoverDisk ${volume.id}`]);
  });
});
