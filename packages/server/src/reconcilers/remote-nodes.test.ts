import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, suite, test } from "node:test";
import { type Disk, type Organization, openSqliteStore, type SandboxRecord, type Store } from "@caisson/database";
import { testTimeoutMs } from "@caisson/linux/testing";
import { newId } from "@caisson/model";
import { TEST_BASE_IMAGE, TEST_REGION } from "@caisson/node/testing";
import { decodeSandboxConfig } from "@caisson/protocol";
import { Control, eventually, WAIT_MS } from "../../testing/control.ts";
import { Machine } from "../../testing/machine.ts";
import { ADMIN_ORGANIZATION } from "../app/access/administrator.ts";
import type { Actor } from "../app/context.ts";
import { deleteDiskNow } from "../app/disks/disk-delete.ts";
import { findProblems } from "../app/disks/disk-problem.ts";
import { forgetNode } from "../app/nodes/node-forget.ts";
import { nodeProblem } from "../app/nodes/node-get.ts";
import { auditEvent } from "../app/operations/audit-event.ts";
import type { LiveSandbox } from "../app/sandboxes/live-sandboxes.ts";
import { openAgent } from "../app/sandboxes/sandbox-connect.ts";
import { createSandbox } from "../app/sandboxes/sandbox-create.ts";
import { extendSandbox } from "../app/sandboxes/sandbox-end.ts";
import { endAllSandboxes } from "../app/sandboxes/sandbox-end-all.ts";
import { requireLiveSandbox } from "../app/sandboxes/sandbox-get.ts";
import { killSandbox } from "../app/sandboxes/sandbox-kill.ts";
import { createSnapshot } from "../app/volumes/snapshot-create.ts";
import { createVolume } from "../app/volumes/volume-create.ts";
import { purgeExpired } from "./periodic.ts";

/** Longer than a test takes: nothing ends by itself. */
const LIFETIME_MS = 600_000;

suite("a server and its nodes on other machines", { timeout: testTimeoutMs(300_000) }, () => {
  let directory: string;
  let store: Store;
  let control: Control;
  let actor: Actor;
  const machines = new Map<string, Machine>();

  const machineOf = ({ owner }: Pick<Disk, "owner">): Machine => {
    const machine = machines.get(owner.nodeId);
    assert.ok(machine);
    return machine;
  };
  const otherThan = (machine: Machine): Machine => {
    const other = [...machines.values()].find((candidate) => candidate !== machine);
    assert.ok(other);
    return other;
  };
  const makeVolume = (slug: string) =>
    createVolume(control.app, actor, { slug, region: TEST_REGION, capacity: "300MB" });
  const start = (volume: string | null, lifetimeMs: number | null): Promise<LiveSandbox> => {
    const wanted = {
      root: { volume: TEST_BASE_IMAGE },
      ...(volume === null ? {} : { volumes: { "/v": volume } }),
      ...(lifetimeMs === null ? {} : { timeout: `${lifetimeMs / 1000}s` }),
    };
    const config = decodeSandboxConfig(Buffer.from(JSON.stringify(wanted)).toString("base64"), Date.now());
    return createSandbox(control.app, actor, config, null, new AbortController().signal);
  };
  const rowOf = async (id: string): Promise<SandboxRecord> => {
    const row = await store.sandboxes.get(actor.organization.id, id);
    assert.ok(row);
    return row;
  };
  const reasonOf = async (id: string) => {
    const { status, stopReason } = await rowOf(id);
    return status === "stopped" ? stopReason : null;
  };
  /** Kills it, and resolves when it has ended; `killSandbox` itself waits no longer for that than a client does. */
  const killed = async (id: string): Promise<void> => {
    await killSandbox(control.app, actor, id);
    await eventually("it has ended", async () => (await rowOf(id)).status === "stopped");
  };
  const setLeaseUntil = (id: string, untilMs: number): void => {
    using database = new DatabaseSync(join(directory, "caisson.db"));
    database.prepare("UPDATE nodes SET lease_until_ms = ? WHERE id = ?").run(untilMs, id);
  };
  const restartControl = async (patienceMs = WAIT_MS) => {
    await control[Symbol.asyncDispose]();
    control = new Control(directory, store, machines);
    await control.remote.start(patienceMs);
  };
  const generationOf = async (machine: Machine) => (await store.nodes.get(machine.id))?.generation;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-control-"));
    store = openSqliteStore(join(directory, "caisson.db"));
    const organization: Organization = { id: "org_a", slug: ADMIN_ORGANIZATION, createdAtMs: 0 };
    await store.organizations.create(
      organization,
      auditEvent(null, "organization-create", { id: "a", organizationId: organization.id }),
    );
    actor = { organization, token: { id: "tok_a", organizationId: organization.id, name: "a", createdAtMs: 0 } };
    for (const id of ["nod_a", "nod_b"]) {
      const event = auditEvent(null, "node-join", { id, organizationId: organization.id });
      const hash = Buffer.from(id);
      await store.joining.createToken({ id: `jtk_${id}`, region: null }, hash, 60_000, event);
      await store.joining.join(hash, { nodeId: id, keyFingerprint: id, address: `${id}:8485` }, event);
      machines.set(id, await Machine.boot(id));
    }
    control = new Control(directory, store, machines);
    await control.remote.start(WAIT_MS);
  });

  after(async () => {
    await control[Symbol.asyncDispose]();
    for (const machine of machines.values()) await machine[Symbol.asyncDispose]();
    await store.close();
    await rm(directory, { recursive: true });
  });

  test("begins their runs, and uses what lies on each through that one", async () => {
    for (const machine of machines.values()) {
      assert.equal(await generationOf(machine), 1);
      assert.equal(machine.generation, 1);
      assert.deepEqual((await store.nodes.get(machine.id))?.labels, { rack: "b4" });
    }
    const volume = await makeVolume("first");
    const machine = machineOf(volume);
    const live = await start("first", LIFETIME_MS);
    assert.equal(live.record.owner.nodeId, machine.id);
    const snapshot = await createSnapshot(control.app, actor, "first", { slug: "copy" });
    assert.deepEqual([snapshot.owner.nodeId, snapshot.consistency], [machine.id, "frozen"]);
    const present = new Set(await machine.host.node.listDisks(TEST_REGION));
    assert.ok(present.has(volume.id) && present.has(snapshot.id));
    await killed(live.record.id);
  });

  test("spreads what may be anywhere, and says which volumes are apart", async () => {
    const spread = [await start(null, LIFETIME_MS), await start(null, LIFETIME_MS)];
    assert.deepEqual(new Set(spread.map(({ record }) => record.owner.nodeId)), new Set(machines.keys()));
    for (const { record } of spread) await killed(record.id);
    const [first, second] = machines.values();
    assert.ok(first && second);
    second.cut();
    await makeVolume("here");
    await second.mend();
    await eventually("it is back", () => control.app.nodes.get(second.id) !== null);
    first.cut();
    await makeVolume("there");
    await first.mend();
    await eventually("it is back", () => control.app.nodes.get(first.id) !== null);
    const config = { root: { volume: TEST_BASE_IMAGE }, volumes: { "/a": "here", "/b": "there" } };
    const header = Buffer.from(JSON.stringify(config)).toString("base64");
    await assert.rejects(
      createSandbox(control.app, actor, decodeSandboxConfig(header, Date.now()), null, new AbortController().signal),
      { code: "NODE_UNAVAILABLE", message: /"here" is on node nod_a and the volume "there" on node nod_b/ },
    );
  });

  test("answers for a node that is cut off with what to do, goes on with the others, and with that one when it is back", async () => {
    const volume = await makeVolume("cut");
    const machine = machineOf(volume);
    const other = otherThan(machine);
    const live = await start("cut", LIFETIME_MS);
    machine.cut();
    for (const refused of [createSnapshot(control.app, actor, "cut", { slug: "lost" }), start("cut", null)])
      await assert.rejects(refused, {
        code: "NODE_UNAVAILABLE",
        message:
          /on node nod_\w+, which this server cannot reach\. [^:]*: an administrator .*caisson nodes show nod_\w+` why$/,
      });
    // The reason may tell addresses: it is for administrators alone.
    const row = await store.nodes.get(machine.id);
    assert.ok(row);
    assert.match(nodeProblem(control.app, row) ?? "", /the cable is cut/);
    other.cut();
    await eventually("the other is lost", () => control.app.nodes.get(other.id) === null);
    await assert.rejects(makeVolume("nowhere"), {
      code: "NODE_UNAVAILABLE",
      message: /\((nod_\w+: this server cannot reach it(; )?){2}\)\..*caisson nodes list" why$/,
    });
    await other.mend();
    await eventually("the other is back", () => control.app.nodes.get(other.id) !== null);
    // Its lease holds still, and will however long this takes: nobody renews it.
    setLeaseUntil(machine.id, Date.now() + LIFETIME_MS);
    assert.equal((await store.nodes.get(machine.id))?.isLive, true);
    const elsewhere = [await start(null, LIFETIME_MS), await start(null, LIFETIME_MS)];
    const owners = [...elsewhere.map(({ record }) => record), await makeVolume("elsewhere")].map(({ owner }) => owner);
    assert.deepEqual(new Set(owners.map(({ nodeId }) => nodeId)), new Set([other.id]));
    for (const { record } of elsewhere) await killed(record.id);
    await machine.mend();
    await eventually("it can be used", () => control.app.nodes.get(machine.id) !== null);
    assert.equal(await generationOf(machine), 1, "the run has begun before");
    await createSnapshot(control.app, actor, "cut", { slug: "found" });
    assert.equal((await rowOf(live.record.id)).status, "running");
    assert.equal(await requireLiveSandbox(control.app, actor, live.record.id), live);
    await killed(live.record.id);
  });

  test("deletes nothing for good while the node is cut off, and goes on with a deletion during which it was lost", async () => {
    const { id, ...volume } = await makeVolume("for-good");
    const machine = machineOf(volume);
    machine.cut();
    await eventually("it is lost", () => control.app.nodes.get(machine.id) === null);
    await assert.rejects(deleteDiskNow(control.app, actor, "volume", "for-good"), { code: "NODE_UNAVAILABLE" });
    assert.equal((await store.disks.get(id))?.state, "ready");
    await machine.mend();
    await eventually("it is back", () => control.app.nodes.get(machine.id) !== null);
    machine.calls.length = 0;
    machine.hanging.add("deleteDisk");
    const deleted = deleteDiskNow(control.app, actor, "volume", "for-good");
    await eventually("its bytes are being deleted", () => machine.calls.includes("deleteDisk"));
    machine.cut();
    assert.equal(await deleted, "purging");
    machine.hanging.clear();
    await machine.mend();
    await eventually("it is back again", () => control.app.nodes.get(machine.id) !== null);
    const connected = control.app.nodes.get(machine.id);
    assert.ok(connected);
    await purgeExpired(control.app, connected);
    assert.equal(await store.disks.get(id), null);
  });

  test("ends what it was asked to end while the node was cut off, when that is back, and keeps the volume until then", async () => {
    const volume = await makeVolume("held");
    const machine = machineOf(volume);
    const live = await start("held", LIFETIME_MS);
    machine.cut();
    const ending = killed(live.record.id);
    await eventually("the end has begun", async () => (await rowOf(live.record.id)).status === "stopping");
    assert.deepEqual(await store.sandboxes.holders(volume.id), [{ sandboxId: live.record.id, isReadOnly: false }]);
    await machine.mend();
    await ending;
    assert.deepEqual(await store.sandboxes.holders(volume.id), []);
  });

  test("goes on after its own restart with what runs for a time, and ends what has lost its creator, its row or its processes", async () => {
    for (const slug of ["goes-on", "session", "vanished"]) await makeVolume(slug);
    const goesOn = await start("goes-on", LIFETIME_MS);
    const session = await start("session", null);
    const vanished = await start("vanished", LIFETIME_MS);
    const exited = await start(null, LIFETIME_MS);
    const extended = await start(null, null);
    const keepUntilMs = await extendSandbox(control.app, extended, Date.now() + LIFETIME_MS);
    const ids = [goesOn, session, vanished, exited].map(({ record }) => record.id);
    const host = (live: LiveSandbox) => machineOf(live.record).host;
    await control[Symbol.asyncDispose]();
    await host(vanished).node.stopSandbox(vanished.record.id);
    host(exited).runtime.exit(exited.record.id, "out-of-memory");
    const [machine] = machines.values();
    assert.ok(machine);
    const { regions } = await machine.host.node.describe();
    const rowless = {
      id: newId("sbx", TEST_REGION),
      region: TEST_REGION,
      hostname: null,
      root: { kind: "image", imageId: regions[0]?.baseImages[0]?.imageId ?? "" },
      mounts: [],
      limits: { memoryBytes: 2 ** 28, cpuCount: 1, pidsMax: 100, terminalsMax: 10 },
      env: {},
      egress: null,
    } as const;
    await machine.host.node.startSandbox(rowless, new AbortController().signal);

    control = new Control(directory, store, machines);
    // Its node has not been taken up: that is not the same as no such sandbox.
    await assert.rejects(requireLiveSandbox(control.app, actor, goesOn.record.id), { code: "NODE_UNAVAILABLE" });
    await control.remote.start(WAIT_MS);
    await eventually("all ends", async () =>
      (await Promise.all(ids.slice(1).map(reasonOf))).every((reason) => reason !== null),
    );
    assert.deepEqual(await Promise.all(ids.map(reasonOf)), [null, "primary-left", "node-lost", "out-of-memory"]);
    const again = await requireLiveSandbox(control.app, actor, goesOn.record.id);
    assert.notEqual(again, goesOn);
    assert.ok(again.timer, "its time is watched again");
    const kept = await requireLiveSandbox(control.app, actor, extended.record.id);
    assert.equal(kept.keepUntilMs, keepUntilMs, "a session that was extended outlives its creator, and the server");
    assert.ok(kept.timer, "its end is watched again");
    await killed(extended.record.id);
    const agent = openAgent(control.app, again);
    agent.write("hello");
    const [answer] = (await Array.fromAsync(agent.take(1))) as Buffer[];
    assert.equal(String(answer), "hello");
    await eventually("what has no row is stopped", async () =>
      (await machine.host.node.listSandboxes()).every(({ id }) => id !== rowless.id),
    );
    await killed(goesOn.record.id);
    for (const { id } of await Promise.all(["goes-on", "session", "vanished"].map((slug) => mustFind(slug))))
      assert.deepEqual(await store.sandboxes.holders(id), []);
  });

  const mustFind = async (slug: string): Promise<Disk> => {
    const disk = await store.disks.find(actor.organization.id, "volume", slug);
    assert.ok(disk);
    return disk;
  };

  for (const isControlThere of [true, false])
    test(`a node that starts again has lost its sandboxes, and their volumes are recovered before they are free, ${isControlThere ? "with the server that had them" : "also when that started again too"}`, async () => {
      const slug = `lost-${isControlThere}`;
      const volume = await makeVolume(slug);
      const machine = machineOf(volume);
      const live = await start(slug, LIFETIME_MS);
      const { id } = live.record;
      const generation = (await generationOf(machine)) ?? 0;
      await machine.stop();
      if (!isControlThere) {
        await restartControl(100);
        await assert.rejects(createSnapshot(control.app, actor, slug, { slug: `${slug}-early` }), {
          code: "NODE_UNAVAILABLE",
        });
        assert.equal((await rowOf(id)).status, "running");
      }
      machine.calls.length = 0;
      machine.hanging.add("recoverDisk");
      await machine.start();
      await eventually("the volume is being recovered", () => machine.calls.includes("recoverDisk"));
      assert.deepEqual(await store.sandboxes.holders(volume.id), [{ sandboxId: id, isReadOnly: false }]);
      machine.hanging.clear();
      machine.cut();
      await machine.mend();
      await eventually("the sandbox has ended", async () => (await reasonOf(id)) === "node-lost");
      assert.deepEqual([await generationOf(machine), machine.generation], [generation + 1, generation + 1]);
      assert.ok(!machine.calls.includes("stopSandbox"), "the new run never had it");
      const next = await start(slug, null);
      await killed(next.record.id);
    });

  test("a node that starts again while the last start is still being settled is taken up all the same", async () => {
    const volume = await makeVolume("twice");
    const machine = machineOf(volume);
    const live = await start("twice", LIFETIME_MS);
    const generation = (await generationOf(machine)) ?? 0;
    await machine.stop();
    machine.calls.length = 0;
    machine.hanging.add("recoverDisk");
    await machine.start();
    await eventually("the volume is being recovered", () => machine.calls.includes("recoverDisk"));
    await machine.stop();
    machine.hanging.clear();
    await machine.start();
    await eventually("the sandbox has ended", async () => (await reasonOf(live.record.id)) === "node-lost");
    assert.equal(await generationOf(machine), generation + 2);
    const next = await start("twice", null);
    await killed(next.record.id);
  });

  test("settles, after its own restart, what the server before it was at on a node whose run goes on", async (t) => {
    const growing = await makeVolume("growing");
    const machine = machineOf(growing);
    const { owner, sequence: _, ...like } = growing;
    const generation = await generationOf(machine);
    await control[Symbol.asyncDispose]();
    const growToBytes = 2 * growing.capacityBytes;
    await store.disks.beginGrow(owner, growing.id, growToBytes);
    await machine.host.node.growDisk({ region: TEST_REGION, id: growing.id }, growToBytes);
    const [half, whole] = ["half", "whole"].map((slug) => ({ ...like, owner, slug, id: newId("vol", TEST_REGION) }));
    assert.ok(half && whole);
    for (const { id, slug } of [half, whole]) {
      await store.disks.reserve({ ...like, owner, id, slug });
      const spec = { region: TEST_REGION, id, sizeBytes: growing.capacityBytes, source: null, inodes: null };
      await machine.host.node.createDisk(spec);
    }
    // The answer to its commit comes when it is already being settled.
    const { withdraw } = store.disks;
    t.mock.method(store.disks, "withdraw", async (id: string) => {
      const event = auditEvent(actor, "volume-create", whole);
      if (id === whole.id) await store.disks.commit(id, { ...growing, consistency: null }, event);
      return withdraw(id);
    });
    control = new Control(directory, store, machines);
    await control.remote.start(WAIT_MS);
    await eventually("all is settled", async () => (await store.disks.get(half.id)) === null);
    assert.equal(await generationOf(machine), generation, "its run goes on");
    const grown = await store.disks.get(growing.id);
    assert.deepEqual([grown?.capacityBytes, grown?.growToBytes], [growToBytes, null]);
    const present = new Set(await machine.host.node.listDisks(TEST_REGION));
    assert.deepEqual([present.has(half.id), present.has(whole.id)], [false, true]);
    assert.equal((await store.disks.get(whole.id))?.state, "ready");
  });

  test("ends sessions when it stops, but none that was extended, and nothing that runs for a time", async () => {
    const session = await start(null, null);
    const [extended, timed] = [await start(null, null), await start(null, LIFETIME_MS)];
    await extendSandbox(control.app, extended, Date.now() + LIFETIME_MS);
    await endAllSandboxes(control.app);
    const ids = [session, extended, timed].map(({ record }) => record.id);
    assert.deepEqual(await Promise.all(ids.map(reasonOf)), ["server-stopped", null, null]);
    await restartControl();
    for (const { record } of [extended, timed]) {
      await requireLiveSandbox(control.app, actor, record.id);
      await killed(record.id);
    }
  });

  test("stops in time although a node does not answer for a sandbox that is being created", async () => {
    for (const machine of machines.values()) {
      machine.calls.length = 0;
      machine.hanging.add("startSandbox");
    }
    const refused = assert.rejects(start(null, null));
    const isBegun = () => [...machines.values()].some(({ calls }) => calls.includes("startSandbox"));
    await eventually("it is being created", isBegun);
    let isOver = false;
    const ending = endAllSandboxes(control.app, 100).then(() => {
      isOver = true;
    });
    try {
      await eventually("the server has ended", () => isOver);
    } finally {
      for (const machine of machines.values()) {
        machine.hanging.clear();
        machine.cut();
        await machine.mend();
      }
      await Promise.all([ending, refused]);
      await restartControl();
    }
  });

  test("remembers a kill of a sandbox that it has not taken up yet", async () => {
    const { id, owner } = (await start(null, LIFETIME_MS)).record;
    const machine = machines.get(owner.nodeId);
    assert.ok(machine);
    machine.hanging.add("listSandboxes");
    await restartControl(200);
    await eventually("it is connected", () => control.app.nodes.get(machine.id) !== null);
    assert.equal(await killSandbox(control.app, actor, id), "stopping");
    machine.hanging.clear();
    machine.cut();
    await machine.mend();
    await eventually("it ends", async () => (await reasonOf(id)) === "killed");
  });

  test("lets sandboxes be that begin while those of the node are compared with the rows", async (t) => {
    const volumes = [await makeVolume("begun-before"), await makeVolume("begun-after")] as const;
    for (const [index, volume] of volumes.entries()) {
      const machine = machineOf(volume);
      let begun: LiveSandbox | null = null;
      const { listRunning } = store.sandboxes;
      const mocked = t.mock.method(store.sandboxes, "listRunning", async (owner: Disk["owner"]) => {
        if (owner.nodeId !== machine.id || begun !== null) return listRunning(owner);
        const starting = start(volume.slug, LIFETIME_MS);
        // The look at the node is over: in the row it is either running, or starting still.
        if (index === 0) begun = await starting;
        else await eventually("it is reserved", async () => (await store.sandboxes.holders(volume.id)).length > 0);
        const rows = await listRunning(owner);
        begun ??= await starting;
        return rows;
      });
      machine.calls.length = 0;
      machine.cut();
      await machine.mend();
      await eventually("it has been taken up", () => machine.calls.includes("prepare"));
      mocked.mock.restore();
      const live = begun as LiveSandbox | null;
      assert.ok(live);
      assert.equal(live.ending, null, String((await rowOf(live.record.id)).stopReason));
      await killed(live.record.id);
    }
  });

  test("learns of an end that was told before it knew the sandbox again", async (t) => {
    await makeVolume("early-end");
    const { id, owner } = (await start("early-end", LIFETIME_MS)).record;
    const machine = machines.get(owner.nodeId);
    assert.ok(machine);
    await control[Symbol.asyncDispose]();
    control = new Control(directory, store, machines);
    const { holds } = store.sandboxes;
    t.mock.method(store.sandboxes, "holds", async (sandboxId: string) => {
      const told = t.mock.method(control.app.live, "markExited");
      if (sandboxId === id) machine.host.runtime.exit(id, "out-of-memory");
      await eventually("it is told", () => sandboxId !== id || told.mock.callCount() > 0);
      told.mock.restore();
      return holds(sandboxId);
    });
    await control.remote.start(WAIT_MS);
    await eventually("it ends", async () => (await reasonOf(id)) === "out-of-memory");
  });

  test("a node that does not answer keeps neither the server from starting nor the others from working", async () => {
    const volume = await makeVolume("quick");
    const other = machineOf(volume);
    const machine = otherThan(other);
    for (const method of ["listSandboxes", "poolCapacity", "placesOf"] as const) machine.hanging.add(method);
    await restartControl(2_000);
    for (const { id } of [other, machine])
      await eventually(`${id} is connected`, () => control.app.nodes.get(id) !== null);
    const held = await store.disks.find(actor.organization.id, "volume", machine.id === "nod_a" ? "here" : "there");
    assert.ok(held);
    const problems = await findProblems(control.app, [held, volume]);
    assert.deepEqual([...problems.keys()], [held.id]);
    assert.match(problems.get(held.id) ?? "", new RegExp(`node ${machine.id} does not say`));
    await createSnapshot(control.app, actor, "quick", { slug: "quick-copy" });
    const { seenAtMs = 0 } = (await store.nodes.get(machine.id)) ?? {};
    await eventually(
      "its lease is renewed all the same",
      async () => ((await store.nodes.get(machine.id))?.seenAtMs ?? 0) > seenAtMs,
    );
    machine.hanging.clear();
    await restartControl();
  });

  test("a node that was forgotten is left", async () => {
    const id = "nod_c";
    const event = auditEvent(null, "node-join", { id, organizationId: actor.organization.id });
    await store.joining.createToken({ id: "jtk_c", region: null }, Buffer.from(id), 60_000, event);
    await store.joining.join(Buffer.from(id), { nodeId: id, keyFingerprint: id, address: `${id}:8485` }, event);
    const machine = await Machine.boot(id);
    machines.set(id, machine);
    await control.remote.look();
    await eventually("it is taken up", () => control.app.nodes.get(id) !== null);
    const hasFigures = async () =>
      (await control.app.metrics.poolThreshold.get()).values.some(({ labels }) => labels.node === id);
    assert.ok(await hasFigures());
    machine.cut();
    setLeaseUntil(id, 1);
    await forgetNode(control.app, actor, id);
    await machine.mend();
    await control.remote.look();
    await eventually("it is left", () => control.app.nodes.whyNot(id) === "this server is not connected to it");
    assert.equal(await store.nodes.get(id), null);
    await eventually("its pools are no series any more", async () => !(await hasFigures()));
  });
});
