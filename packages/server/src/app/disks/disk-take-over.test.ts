import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { type Disk, type NewDisk, type Owner, openSqliteStore, type SharedPool, type Store } from "@caisson/database";
import {
  beginLapsed,
  sampleDisk,
  sampleEvent,
  sampleNode,
  samplePlaces,
  sampleSandbox,
  sampleUsage,
} from "@caisson/database/testing";
import { CaissonError, newId } from "@caisson/model";
import type { Node } from "@caisson/node";
import { decodeSandboxConfig } from "@caisson/protocol";
import { Control } from "../../../testing/control.ts";
import { recover } from "../../reconcilers/recover.ts";
import { ADMIN_ORGANIZATION } from "../access/administrator.ts";
import type { Actor } from "../context.ts";
import { connectedNode } from "../nodes/node-directory.ts";
import { drainNode } from "../nodes/node-drain.ts";
import { forgetNode, getNodeLoss } from "../nodes/node-forget.ts";
import { forgetLostNodes } from "../nodes/node-loss.ts";
import { DEFAULT_BASE_IMAGE } from "../region.ts";
import { planSandbox } from "../sandboxes/sandbox-plan.ts";
import { createVolume } from "../volumes/volume-create.ts";
import { deleteDisk, deleteDiskNow } from "./disk-delete.ts";
import { purgeDisk } from "./disk-purge.ts";
import { takeOverIfLost } from "./disk-take-over.ts";

const LEASE_MS = 60_000;
const [LOST, HEIR] = ["nod_lost", "nod_heir"];
const poolOf = (instance: string, identity = "fsid/pool"): SharedPool => ({ identity, instance });

/** The rows are real, and the nodes write down what is asked of them. */
suite("a disk whose node is lost", () => {
  let directory: string;
  let store: Store;
  let control: Control;
  let actor: Actor;
  let lost: Owner;
  let calls: string[];
  /** Calls that fail, once each. */
  const failures = new Map<string, CaissonError>();
  const imageBytes = new Map<string, number>();
  /** Nodes that have not opened the pool that they have said, and those to which it does not answer. */
  const closed = new Set<string>();
  const unanswered = new Set<string>();
  /** Nodes that were asked what they have, in order. */
  const described: string[] = [];

  const asked = async (nodeId: string, call: string, id: string): Promise<void> => {
    calls.push(`${nodeId} ${call} ${id}`);
    const failure = failures.get(call);
    failures.delete(call);
    if (failure !== undefined) throw failure;
  };
  const connect = async (id: string, shared: SharedPool | null): Promise<Owner> => {
    const sharedPools = shared === null ? {} : { ord: shared };
    const row = await store.nodes.begin(sampleNode({ id, address: `${id}:8485`, sharedPools }), LEASE_MS);
    const owner = { nodeId: id, generation: row.generation };
    const baseImages = [{ name: DEFAULT_BASE_IMAGE, imageId: "base", sizeBytes: 1 }];
    const description = { runId: row.runId, labels: {}, placeCount: 1, placeBound: null, retriedWorkCount: 0 };
    const regions = [{ name: "ord", baseImages, hasReplicated: shared !== null, shared }];
    const node: Partial<Node> = {
      async describe() {
        described.push(id);
        return {
          ...description,
          regions: regions.map((region) => (closed.has(id) ? { ...region, shared: null } : region)),
        };
      },
      fence: (_region, instance) => asked(id, "fence", instance),
      recoverDisk: (disk) => asked(id, "recoverDisk", disk.id),
      growDisk: (disk) => asked(id, "growDisk", disk.id),
      createDisk: (disk) => asked(id, "createDisk", disk.id),
      measureDisk: async () => null,
      placesOf: async (_region, ids) => ids.map(() => ({ directory: id, problem: null })),
      async getDisk(disk) {
        if (unanswered.has(id)) throw new CaissonError("DISK_UNAVAILABLE", "the cluster does not answer");
        return { sizeBytes: imageBytes.get(disk.id) ?? 1e9 };
      },
      async deleteDisk(disk) {
        await asked(id, "deleteDisk", disk.id);
        return "deleted";
      },
    };
    control.app.nodes.add(connectedNode(owner, node as Node, { ...description, regions }));
    return owner;
  };
  const make = async (
    slug: string,
    values: Partial<NewDisk> = {},
    diskClass: "replicated" | "local" = "replicated",
  ) => {
    const id = newId(values.kind === "snapshot" ? "snp" : "vol", "ord", diskClass);
    await store.disks.reserve(sampleDisk({ organizationId: "org_a", slug, owner: lost, id, ...values }));
    return store.disks.commit(id, { ...sampleUsage(), consistency: null }, sampleEvent(id, "create"));
  };
  const rowOf = async ({ id }: Pick<Disk, "id">): Promise<Disk> => (await store.disks.get(id)) ?? assert.fail(id);
  const takeOver = (disk: Disk) => takeOverIfLost(control.app, disk);
  const plan = (...slugs: readonly string[]) => planOn(DEFAULT_BASE_IMAGE, ...slugs);
  const planOn = (root: string, ...slugs: readonly string[]) => {
    const volumes = Object.fromEntries(slugs.map((slug, index) => [`/v${index}`, slug]));
    const config = Buffer.from(JSON.stringify({ root: { volume: root }, volumes, timeout: "600s" })).toString("base64");
    return planSandbox(control.app, actor, decodeSandboxConfig(config, Date.now()), null, new AbortController().signal);
  };
  const unavailable = (message: RegExp) => ({ code: "NODE_UNAVAILABLE", message });
  /** As a last try to connect that failed, and what the next one finds. */
  const foundAway = (id: string, isThere = false) => {
    const triedAddress = { host: id, port: 8485 };
    control.app.nodes.expect(id, { problem: "it is down", triedAddress, isThere: async () => isThere });
  };

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-take-over-"));
    store = openSqliteStore(join(directory, "caisson.db"));
    const organization = { id: "org_a", slug: ADMIN_ORGANIZATION, createdAtMs: 0 };
    await store.organizations.create(organization, sampleEvent("org_a"));
    actor = { organization, token: { id: "tok_a", organizationId: "org_a", name: "a", createdAtMs: 0 } };
    control = new Control(directory, store, new Map());
    calls = [];
    failures.clear();
    imageBytes.clear();
    closed.clear();
    unanswered.clear();
    lost = await beginLapsed(store, { id: LOST, address: `${LOST}:8485`, sharedPools: { ord: poolOf("lost.1") } });
  });
  afterEach(async () => {
    await control[Symbol.asyncDispose]();
    await store.close();
    await rm(directory, { recursive: true });
  });

  test("is taken over by a node with the same pool, which shuts the lost one out before anything else", async () => {
    await connect("nod_other", poolOf("other.1", "fsid/other"));
    const heir = await connect(HEIR, poolOf("heir.1"));
    foundAway(LOST);
    const volume = await make("data");
    const snapshot = await make("copy", { kind: "snapshot" });
    const taken = await takeOver(volume);
    assert.deepEqual([taken.owner, taken.takenFrom], [heir, []]);
    assert.equal((await takeOver(snapshot)).owner.nodeId, HEIR);
    assert.deepEqual(calls, [`${HEIR} fence lost.1`, `${HEIR} recoverDisk ${volume.id}`, `${HEIR} fence lost.1`]);
    const [event] = await store.events.list("org_a", volume.id, 1);
    assert.deepEqual(
      [event?.verb, event?.detail],
      ["volume-take-over", { slug: "data", fromNodeId: LOST, toNodeId: HEIR }],
    );
    assert.equal(control.app.nodes.isShutOut(lost), true);
    assert.deepEqual(await takeOver(taken), taken, "it stays there");
    assert.equal(calls.length, 3);
  });

  test("stays where it is while its node may be alive, and when it is local", async () => {
    await connect(HEIR, poolOf("heir.1"));
    const volume = await make("data");
    await assert.rejects(takeOver(volume), unavailable(/has not found out yet whether it can reach the node/));
    foundAway(LOST);
    await store.nodes.renew(lost, LEASE_MS, {});
    await assert.rejects(
      takeOver(volume),
      unavailable(/takes it over when it is used after the lease .* run out \(\d{4}-/),
    );
    const local = await make("near", {}, "local");
    assert.deepEqual(await takeOver(local), local);
    await connect(LOST, poolOf("lost.2"));
    assert.deepEqual(await takeOver(volume), volume);
    assert.equal((await rowOf(volume)).owner.nodeId, LOST);
    assert.deepEqual(calls, []);
  });

  test("whatever cuts a takeover off leaves it unusable on its new node, and the next use goes on", async (t) => {
    await connect(HEIR, poolOf("heir.1"));
    foundAway(LOST);
    const volume = await make("data");
    const requirePending = async (): Promise<Disk> => {
      const row = await rowOf(volume);
      assert.deepEqual([row.owner.nodeId, row.takenFrom], [HEIR, ["lost.1"]]);
      assert.throws(() => control.app.nodes.of(row), unavailable(/has not shut the node out that had it before/));
      return row;
    };
    failures.set("fence", new CaissonError("DISK_UNAVAILABLE", "the cluster does not answer"));
    await assert.rejects(takeOver(volume), { code: "DISK_UNAVAILABLE" });
    assert.deepEqual(calls, [`${HEIR} fence lost.1`], "nothing is done with an image that may still be written to");
    failures.set("recoverDisk", new CaissonError("VOLUME_IN_USE", "somebody has it"));
    await assert.rejects(takeOver(await requirePending()), { code: "VOLUME_IN_USE" });
    const settle = t.mock.method(store.disks, "settleTakeOver", async () => {
      throw new Error("the server is killed");
    });
    await assert.rejects(takeOver(await requirePending()), /is killed/);
    settle.mock.restore();
    // A file system that is damaged is told when it is mounted.
    failures.set("recoverDisk", new CaissonError("VOLUME_DAMAGED", "it is damaged"));
    assert.deepEqual((await takeOver(await requirePending())).takenFrom, []);
  });

  test("is shut off from all that had it when the node that takes it over is lost, too", async () => {
    await connect(HEIR, poolOf("heir.1"));
    foundAway(LOST);
    const volume = await make("data");
    failures.set("fence", new CaissonError("DISK_UNAVAILABLE", "the cluster does not answer"));
    await assert.rejects(takeOver(volume), { code: "DISK_UNAVAILABLE" });
    control.app.nodes.forget(HEIR);
    foundAway(HEIR);
    await connect("nod_third", poolOf("third.1"));
    const heir = (await store.nodes.get(HEIR)) ?? assert.fail();
    await store.nodes.begin({ ...heir, address: null }, -1);
    calls = [];
    assert.equal((await takeOver(await rowOf(volume))).owner.nodeId, "nod_third");
    assert.deepEqual(calls.slice(0, 2), ["nod_third fence lost.1", "nod_third fence heir.1"]);
  });

  test("says what to do where no other node can have it", async () => {
    foundAway(LOST);
    const volume = await make("data");
    await assert.rejects(takeOver(volume), unavailable(/no other node of region ord has its pool: let one join/));
    await connect(HEIR, poolOf("heir.1"));
    control.app.nodes.forget(HEIR);
    await assert.rejects(takeOver(volume), unavailable(/cannot be reached either: try again later/));
    const silent = await beginLapsed(store, { id: "nod_silent", address: "nod_silent:8485" });
    foundAway("nod_silent");
    const inDirectory = await make("in-directory", { owner: silent });
    await assert.rejects(takeOver(inDirectory), unavailable(/none that nodes share, as a directory is/));
    assert.equal((await store.nodes.get(LOST))?.isShutOut, false);
  });

  test("a node that drains gives volumes that nobody has to another one, and nobody is shut out", async () => {
    const volume = await make("data");
    const local = await make("near", {}, "local");
    const snapshot = await make("copy", { kind: "snapshot" });
    lost = await connect(LOST, poolOf("lost.2"));
    const drain = () => drainNode(control.app, actor, LOST, true);
    await drain();
    assert.equal((await rowOf(volume)).owner.nodeId, LOST, "there is no other one");
    await connect(HEIR, poolOf("heir.1"));
    await store.nodes.setDraining(HEIR, true, sampleEvent(HEIR));
    await drain();
    assert.equal((await rowOf(volume)).owner.nodeId, LOST, "the other one drains");
    await store.nodes.setDraining(HEIR, false, sampleEvent(HEIR));
    await drain();
    const nodes = (await Promise.all([volume, local, snapshot].map(rowOf))).map(({ owner }) => owner.nodeId);
    assert.deepEqual(nodes, [HEIR, LOST, LOST]);
    assert.equal((await store.nodes.get(LOST))?.isShutOut, false);
    assert.deepEqual(calls, []);
    const [event] = await store.events.list("org_a", volume.id, 1);
    assert.deepEqual([event?.verb, event?.detail.isDraining], ["volume-take-over", true]);
  });

  test("has its growth finished where the image had grown, and else forgotten", async () => {
    await connect(HEIR, poolOf("heir.1"));
    foundAway(LOST);
    const [grown, begun, late] = [await make("grown"), await make("begun"), await make("late")];
    await store.nodes.renew(lost, LEASE_MS, {});
    for (const { id } of [grown, begun, late]) await store.disks.beginGrow(lost, id, 2e9);
    const row = (await store.nodes.get(LOST)) ?? assert.fail();
    await store.nodes.begin({ ...row, address: null }, -1);
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
    const heir = control.app.nodes.get(HEIR) ?? assert.fail();
    await recover(control.app, heir, "node-lost", new AbortController().signal, [await rowOf(late)]);
    const { takenFrom, capacityBytes, growToBytes } = await rowOf(late);
    assert.deepEqual([takenFrom, capacityBytes, growToBytes], [[], 2e9, null]);
    assert.equal(control.app.persistent.failingCount, 0);
  });

  test("is held by its sandboxes no more, so that it can be deleted", async () => {
    await connect(HEIR, poolOf("heir.1"));
    await store.nodes.setDraining(HEIR, true, sampleEvent(HEIR));
    const volume = await make("data");
    const again = await make("again", { kind: "snapshot" });
    await store.nodes.renew(lost, LEASE_MS, {});
    const sandbox = sampleSandbox({ organizationId: "org_a", region: "ord" });
    const hold = [{ volumeId: volume.id, isReadOnly: false }];
    assert.equal((await store.sandboxes.reserve(sandbox, hold, samplePlaces())).kind, "reserved");
    const row = (await store.nodes.get(LOST)) ?? assert.fail();
    await store.nodes.begin({ ...row, address: null }, -1);
    foundAway(LOST);
    await deleteDisk(control.app, actor, "volume", "data");
    assert.equal((await store.sandboxes.get("org_a", sandbox.id))?.stopReason, "node-lost");
    assert.equal(await deleteDiskNow(control.app, actor, "snapshot", "again"), "purged");
    assert.ok(calls.includes(`${HEIR} deleteDisk ${again.id}`));
  });

  test("a node that is forgotten as lost gives what it shares to another one, and only with such a one it is", async () => {
    foundAway(LOST);
    const volume = await make("data");
    const local = await make("near", {}, "local");
    const deleted = await make("deleted");
    await store.disks.delete(deleted.id, 1, 9e15, sampleEvent(deleted.id));
    const unfinished = newId("vol", "ord", "replicated");
    await store.disks.reserve(sampleDisk({ organizationId: "org_a", slug: "unfinished", owner: lost, id: unfinished }));
    const { volumes, volumeNames } = await getNodeLoss(control.app, actor, LOST);
    assert.deepEqual([volumes, volumeNames], [1, [{ organization: ADMIN_ORGANIZATION, slug: "near" }]]);
    const forget = () => forgetNode(control.app, actor, LOST, { isLost: true });
    await assert.rejects(forget(), {
      code: "NODE_IN_USE",
      message: /lost yet: .* no other node of region ord has its pool/,
    });
    assert.equal((await store.nodes.get(LOST))?.lostAtMs, null);
    await connect(HEIR, poolOf("heir.1"));
    await forget();
    assert.equal(await store.nodes.get(LOST), null);
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
    assert.equal(await purgeDisk(control.app, await rowOf({ id: unfinished })), true);
    assert.ok(calls.includes(`${HEIR} deleteDisk ${unfinished}`));
  });

  test("a node that was given up hands over what it shares also when the server has left it, as the next one has", async () => {
    await connect(HEIR, poolOf("heir.1"));
    const volume = await make("data");
    await store.nodes.giveUp(LOST, sampleEvent(LOST));
    assert.equal(control.app.nodes.isKnownAway(LOST, { host: LOST, port: 8485 }), false);
    await forgetLostNodes(control.app);
    const { owner, state, lostAtMs } = await rowOf(volume);
    assert.deepEqual([owner.nodeId, state, lostAtMs], [HEIR, "ready", null]);
    assert.equal(await store.nodes.get(LOST), null);
    assert.deepEqual(calls, [`${HEIR} fence lost.1`, `${HEIR} recoverDisk ${volume.id}`]);
  });

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
    await store.disks.reserve(
      sampleDisk({ organizationId: "org_a", slug: "far", owner: heir, id: far, region: "fra" }),
    );
    await store.disks.commit(far, { ...sampleUsage(), consistency: null }, sampleEvent(far, "create"));

    await assert.rejects(plan("data", "near"), unavailable(/is on node nod_lost, which this server cannot reach/));
    await assert.rejects(plan("data", "at-other"), unavailable(/on node nod_other, which does not have its pool/));
    await assert.rejects(plan("data", "at-heir", "at-other"), unavailable(/uses what lies on one node/));
    await assert.rejects(plan("data", "data"), { code: "INVALID_CONFIG" });
    await assert.rejects(plan("data", "far"), { code: "REGION_MISMATCH" });
    await assert.rejects(planOn("builtin:other", "data"), /builtin:other/);
    await store.nodes.setDraining(HEIR, true, sampleEvent(HEIR));
    await assert.rejects(plan("data"), unavailable(/are being drained/));
    await assert.rejects(plan("data", "at-heir"), unavailable(/are being drained/));
    assert.equal((await rowOf(volume)).owner.nodeId, LOST);
    assert.equal((await store.nodes.get(LOST))?.isShutOut, false);
    assert.deepEqual(calls, []);

    // Where the rest is, also when another one has less to do.
    await store.nodes.setDraining(HEIR, false, sampleEvent(HEIR));
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
    const gone = await beginLapsed(store, { id: "nod_gone", address: "nod_gone:8485", sharedPools: { ord: shared } });
    const one = await make("one");
    await make("two", { owner: gone });
    await connect(HEIR, poolOf("heir.1"));
    await connect("nod_other", poolOf("other.1", "fsid/other"));
    await assert.rejects(plan("one", "two"), unavailable(/none has the pools of all that it is to be used with/));
    assert.equal((await rowOf(one)).owner.nodeId, LOST);
    assert.deepEqual(calls, []);
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
    assert.equal((await store.nodes.get(LOST))?.isShutOut, false);
    await connect(HEIR, poolOf("heir.1"));
    await plan("data");
    await takeOver(again);
    for (const disk of [volume, again]) assert.equal((await rowOf(disk)).owner.nodeId, HEIR);
    described.length = 0;
    await drainNode(control.app, actor, HEIR, true);
    for (const disk of [volume, again])
      assert.equal((await rowOf(disk)).owner.nodeId, HEIR, "also of a node that drains");
    assert.deepEqual(described, ["nod_closed", "nod_cut"], "once for all volumes");
    unanswered.delete("nod_cut");
    await drainNode(control.app, actor, HEIR, true);
    for (const disk of [volume, again]) assert.equal((await rowOf(disk)).owner.nodeId, "nod_cut");
  });

  test("stays with a node that answers again, though the last try to connect had failed", async () => {
    foundAway(LOST, true);
    const gone = await beginLapsed(store, {
      ...{ id: "nod_gone", address: "nod_gone:8485", sharedPools: { ord: poolOf("gone.1") } },
    });
    foundAway("nod_gone");
    const volume = await make("data");
    const other = await make("other", { owner: gone });
    await connect(HEIR, poolOf("heir.1"));
    await assert.rejects(takeOver(volume), unavailable(/its node nod_lost answers again/));
    await assert.rejects(plan("other", "data"), unavailable(/its node nod_lost answers again/));
    assert.deepEqual(await Promise.all([volume, other].map(rowOf)), [volume, other]);
    await assert.rejects(forgetNode(control.app, actor, LOST, { isLost: true }), {
      code: "NODE_IN_USE",
      message: /it answers this server again/,
    });
    for (const id of [LOST, "nod_gone"]) assert.equal((await store.nodes.get(id))?.isShutOut, false);
    foundAway(LOST);
    await plan("other", "data");
    for (const disk of [volume, other]) assert.equal((await rowOf(disk)).owner.nodeId, HEIR);
  });

  test("that was being made is left to the node that gets it, which removes the image", async (t) => {
    await connect(LOST, poolOf("lost.2"));
    // It is lost with the image made and unknown to the server.
    const commit = t.mock.method(store.disks, "commit", async () => {
      control.app.nodes.forget(LOST);
      throw new Error("the node is lost");
    });
    const wanted = { slug: "unmade", region: "ord", capacity: "1GB", class: "replicated" } as const;
    await assert.rejects(createVolume(control.app, actor, wanted), /the node is lost/);
    commit.mock.restore();
    const [made = ""] = calls.filter((call) => call.includes("createDisk")).map((call) => call.split(" ").at(-1) ?? "");
    const row = (await store.nodes.get(LOST)) ?? assert.fail();
    await store.nodes.begin({ ...row, address: null }, -1);
    foundAway(LOST);
    await connect(HEIR, poolOf("heir.1"));
    await forgetNode(control.app, actor, LOST, { isLost: true });
    // What undoes the creation tries again now.
    await control.app.persistent.close();
    const { owner, state } = await rowOf({ id: made });
    assert.deepEqual([owner.nodeId, state], [HEIR, "purging"]);
    assert.equal(await purgeDisk(control.app, await rowOf({ id: made })), true);
    assert.ok(calls.includes(`${HEIR} deleteDisk ${made}`));
    assert.equal(await store.disks.get(made), null);
  });
});
