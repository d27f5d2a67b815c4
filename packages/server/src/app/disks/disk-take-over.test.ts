import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { Disk } from "@caisson/database";
import { beginLapsed, sampleEvent, samplePlaces, sampleSandbox } from "@caisson/database/testing";
import { CaissonError } from "@caisson/model";
import { HEIR, LEASE_MS, LOST, lostNodeWorld, poolOf, unavailable } from "../../../testing/lost-node-world.ts";
import { recover } from "../../reconcilers/recover.ts";
import { forgetNode } from "../nodes/node-forget.ts";
import { createVolume } from "../volumes/volume-create.ts";
import { deleteDisk, deleteDiskNow } from "./disk-delete.ts";
import { purgeDisk } from "./disk-purge.ts";

suite("a disk whose node is lost", () => {
  const world = lostNodeWorld();
  const { connect, make, rowOf, takeOver, foundAway, failures, imageBytes } = world;
  /** A volume whose node is lost, and that its heir could not take over, because the pool does not answer the heir. */
  const makeStuck = async (): Promise<Disk> => {
    await connect(HEIR, poolOf("heir.1"));
    foundAway(LOST);
    const volume = await make("data");
    failures.set("fence", new CaissonError("DISK_UNAVAILABLE", "the cluster does not answer"));
    await assert.rejects(takeOver(volume), { code: "DISK_UNAVAILABLE" });
    return volume;
  };

  test("is taken over by a node with the same pool, which shuts the lost one out before anything else", async () => {
    await connect("nod_other", poolOf("other.1", "fsid/other"));
    const heir = await connect(HEIR, poolOf("heir.1"));
    foundAway(LOST);
    const volume = await make("data");
    const snapshot = await make("copy", { kind: "snapshot" });
    const taken = await takeOver(volume);
    assert.deepEqual([taken.owner, taken.takenFrom], [heir, []]);
    assert.equal((await takeOver(snapshot)).owner.nodeId, HEIR);
    assert.deepEqual(world.calls, [
      `${HEIR} fence lost.1`,
      `${HEIR} recoverDisk ${volume.id} not other.1`,
      `${HEIR} fence lost.1`,
    ]);
    const [event] = await world.store.events.list("org_a", volume.id, 1);
    assert.deepEqual(
      [event?.verb, event?.detail],
      ["volume-take-over", { slug: "data", fromNodeId: LOST, toNodeId: HEIR }],
    );
    assert.equal(world.control.app.nodes.isShutOut(world.lost), true);
    assert.deepEqual(await takeOver(taken), taken, "it stays there");
    assert.equal(world.calls.length, 3);
  });

  test("stays where it is while its node may be alive, and when it is local", async () => {
    await connect(HEIR, poolOf("heir.1"));
    const volume = await make("data");
    await assert.rejects(takeOver(volume), unavailable(/has not found out yet whether it can reach the node/));
    foundAway(LOST);
    await world.store.nodes.renew(world.lost, LEASE_MS, {});
    await assert.rejects(
      takeOver(volume),
      unavailable(/takes it over when it is used after the lease .* run out \(\d{4}-/),
    );
    const local = await make("near", {}, "local");
    assert.deepEqual(await takeOver(local), local);
    await connect(LOST, poolOf("lost.2"));
    assert.deepEqual(await takeOver(volume), volume);
    assert.equal((await rowOf(volume)).owner.nodeId, LOST);
    assert.deepEqual(world.calls, []);
  });

  test("whatever cuts a takeover off leaves it unusable on its new node, and the next use goes on", async (t) => {
    await connect(HEIR, poolOf("heir.1"));
    foundAway(LOST);
    const volume = await make("data");
    const requirePending = async (): Promise<Disk> => {
      const row = await rowOf(volume);
      assert.deepEqual([row.owner.nodeId, row.takenFrom], [HEIR, ["lost.1"]]);
      assert.throws(() => world.control.app.nodes.of(row), unavailable(/has not shut the node out that had it before/));
      return row;
    };
    failures.set("fence", new CaissonError("DISK_UNAVAILABLE", "the cluster does not answer"));
    await assert.rejects(takeOver(volume), { code: "DISK_UNAVAILABLE" });
    assert.deepEqual(
      world.calls,
      [`${HEIR} fence lost.1`],
      "nothing is done with an image that may still be written to",
    );
    failures.set("recoverDisk", new CaissonError("VOLUME_IN_USE", "somebody has it"));
    await assert.rejects(takeOver(await requirePending()), { code: "VOLUME_IN_USE" });
    const settle = t.mock.method(world.store.disks, "settleTakeOver", async () => {
      throw new Error("the server is killed");
    });
    await assert.rejects(takeOver(await requirePending()), /is killed/);
    settle.mock.restore();
    // A file system that is damaged is told when it is mounted.
    failures.set("recoverDisk", new CaissonError("VOLUME_DAMAGED", "it is damaged"));
    assert.deepEqual((await takeOver(await requirePending())).takenFrom, []);
  });

  test("is shut off from all that had it when the node that takes it over is lost, too", async () => {
    const volume = await makeStuck();
    world.control.app.nodes.forget(HEIR);
    foundAway(HEIR);
    await connect("nod_third", poolOf("third.1"));
    const heir = (await world.store.nodes.get(HEIR)) ?? assert.fail();
    await world.store.nodes.begin({ ...heir, address: null }, -1);
    world.calls = [];
    assert.equal((await takeOver(await rowOf(volume))).owner.nodeId, "nod_third");
    assert.deepEqual(world.calls.slice(0, 2), ["nod_third fence lost.1", "nod_third fence heir.1"]);
  });

  test("goes on to another node when the pool does not answer the one that was to have it, which keeps all else", async () => {
    const volume = await makeStuck();
    await connect("nod_third", poolOf("third.1"));
    failures.set("fence", new CaissonError("DISK_UNAVAILABLE", "the cluster does not answer"));
    world.calls = [];
    const { owner, takenFrom } = await takeOver(await rowOf(volume));
    assert.deepEqual([owner.nodeId, takenFrom], ["nod_third", []]);
    const fences = [`${HEIR} fence lost.1`, "nod_third fence lost.1"];
    assert.deepEqual(world.calls, [...fences, `nod_third recoverDisk ${volume.id} not heir.1`]);
    assert.equal((await world.store.nodes.get(HEIR))?.isShutOut, false);
    const [event] = await world.store.events.list("org_a", volume.id, 1);
    assert.deepEqual(event?.detail, { slug: "data", fromNodeId: HEIR, toNodeId: "nod_third", isUnsettled: true });
  });

  test("is checked without a live node being shut out that has not let go of it", async () => {
    await connect(HEIR, poolOf("heir.1"));
    await connect("nod_other", poolOf("other.1", "fsid/other"));
    const gone = await connect("nod_gone", poolOf("gone.1"));
    world.control.app.nodes.forget(gone.nodeId);
    await connect("nod_lapsed", poolOf("lapsed.1"));
    await beginLapsed(world.store, {
      id: "nod_over",
      address: "nod_over:8485",
      sharedPools: { ord: poolOf("over.1") },
    });
    foundAway(LOST);
    const volume = await make("data");
    await takeOver(volume);
    assert.deepEqual(world.calls.at(-1), `${HEIR} recoverDisk ${volume.id} not gone.1 lapsed.1 other.1`);
  });

  test("says what to do where no other node can have it", async () => {
    foundAway(LOST);
    const volume = await make("data");
    await assert.rejects(takeOver(volume), unavailable(/no other node of region ord has its pool: let one join/));
    await connect(HEIR, poolOf("heir.1"));
    world.control.app.nodes.forget(HEIR);
    await assert.rejects(takeOver(volume), unavailable(/cannot be reached either: try again later/));
    const silent = await beginLapsed(world.store, { id: "nod_silent", address: "nod_silent:8485" });
    foundAway("nod_silent");
    const inDirectory = await make("in-directory", { owner: silent });
    await assert.rejects(takeOver(inDirectory), unavailable(/none that nodes share, as a directory is/));
    assert.equal((await world.store.nodes.get(LOST))?.isShutOut, false);
  });

  test("has its growth finished where the image had grown, and else forgotten", async () => {
    await connect(HEIR, poolOf("heir.1"));
    foundAway(LOST);
    const [grown, begun, late] = [await make("grown"), await make("begun"), await make("late")];
    await world.store.nodes.renew(world.lost, LEASE_MS, {});
    for (const { id } of [grown, begun, late]) await world.store.disks.beginGrow(world.lost, id, 2e9);
    const row = (await world.store.nodes.get(LOST)) ?? assert.fail();
    await world.store.nodes.begin({ ...row, address: null }, -1);
    imageBytes.set(grown.id, 2e9);
    const sizes = async (disk: Disk) => {
      const { capacityBytes, growToBytes } = await takeOver(disk);
      return [capacityBytes, growToBytes];
    };
    assert.deepEqual(await sizes(grown), [2e9, null]);
    assert.deepEqual(await sizes(begun), [1e9, null]);

    // What was cut off before that is settled with the next run of the server, or of the node.
    failures.set("fence", new CaissonError("DISK_UNAVAILABLE", "the cluster does not answer"));
    await assert.rejects(takeOver(late), { code: "DISK_UNAVAILABLE" });
    imageBytes.set(late.id, 2e9);
    const heir = world.control.app.nodes.get(HEIR) ?? assert.fail();
    await recover(world.control.app, heir, "node-lost", new AbortController().signal, [await rowOf(late)]);
    const { takenFrom, capacityBytes, growToBytes } = await rowOf(late);
    assert.deepEqual([takenFrom, capacityBytes, growToBytes], [[], 2e9, null]);
    assert.equal(world.control.app.persistent.failingCount, 0);
  });

  test("is held by its sandboxes no more, so that it can be deleted", async () => {
    await connect(HEIR, poolOf("heir.1"));
    await world.store.nodes.setDraining(HEIR, true, sampleEvent(HEIR));
    const volume = await make("data");
    const again = await make("again", { kind: "snapshot" });
    await world.store.nodes.renew(world.lost, LEASE_MS, {});
    const sandbox = sampleSandbox({ organizationId: "org_a", region: "ord" });
    const hold = [{ volumeId: volume.id, isReadOnly: false }];
    assert.equal((await world.store.sandboxes.reserve(sandbox, hold, samplePlaces())).kind, "reserved");
    const row = (await world.store.nodes.get(LOST)) ?? assert.fail();
    await world.store.nodes.begin({ ...row, address: null }, -1);
    foundAway(LOST);
    await deleteDisk(world.control.app, world.actor, "volume", "data");
    assert.equal((await world.store.sandboxes.get("org_a", sandbox.id))?.stopReason, "node-lost");
    assert.equal(await deleteDiskNow(world.control.app, world.actor, "snapshot", "again"), "purged");
    assert.ok(world.calls.includes(`${HEIR} deleteDisk ${again.id}`));
  });

  test("that was being made is left to the node that gets it, which removes the image", async (t) => {
    await connect(LOST, poolOf("lost.2"));
    // It is lost with the image made and unknown to the server.
    const commit = t.mock.method(world.store.disks, "commit", async () => {
      world.control.app.nodes.forget(LOST);
      throw new Error("the node is lost");
    });
    const wanted = { slug: "unmade", region: "ord", capacity: "1GB", class: "replicated" } as const;
    await assert.rejects(createVolume(world.control.app, world.actor, wanted), /the node is lost/);
    commit.mock.restore();
    const [made = ""] = world.calls
      .filter((call) => call.includes("createDisk"))
      .map((call) => call.split(" ").at(-1) ?? "");
    const row = (await world.store.nodes.get(LOST)) ?? assert.fail();
    await world.store.nodes.begin({ ...row, address: null }, -1);
    foundAway(LOST);
    await connect(HEIR, poolOf("heir.1"));
    await forgetNode(world.control.app, world.actor, LOST, { isLost: true });
    // What undoes the creation tries again now.
    await world.control.app.persistent.close();
    const { owner, state } = await rowOf({ id: made });
    assert.deepEqual([owner.nodeId, state], [HEIR, "purging"]);
    assert.equal(await purgeDisk(world.control.app, await rowOf({ id: made })), true);
    assert.ok(world.calls.includes(`${HEIR} deleteDisk ${made}`));
    assert.equal(await world.store.disks.get(made), null);
  });
});
