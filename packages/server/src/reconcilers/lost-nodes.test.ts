import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, suite, test } from "node:test";
import { pathToFileURL } from "node:url";
import { openSqliteStore, type Store } from "@caisson/database";
import { testTimeoutMs } from "@caisson/linux/testing";
import { TEST_BASE_IMAGE, TEST_REGION } from "@caisson/node/testing";
import { openObjectStore } from "@caisson/objects";
import { decodeSandboxConfig } from "@caisson/protocol";
import { SnapshotStore } from "@caisson/snapshot-store";
import { Control, eventually, WAIT_MS } from "../../testing/control.ts";
import { Machine } from "../../testing/machine.ts";
import { ADMIN_ORGANIZATION } from "../app/access/administrator.ts";
import type { Actor } from "../app/context.ts";
import { deleteDiskNow } from "../app/disks/disk-delete.ts";
import { findProblems } from "../app/disks/disk-problem.ts";
import { forgetNode, getNodeLoss } from "../app/nodes/node-forget.ts";
import { forgetLostNodes } from "../app/nodes/node-loss.ts";
import { auditEvent } from "../app/operations/audit-event.ts";
import { uploadSnapshot } from "../app/replication/snapshot-upload.ts";
import { createSandbox } from "../app/sandboxes/sandbox-create.ts";
import { killSandbox } from "../app/sandboxes/sandbox-kill.ts";
import { createSnapshot } from "../app/volumes/snapshot-create.ts";
import { createVolume } from "../app/volumes/volume-create.ts";
import { purgeLost } from "./periodic.ts";

const SIGNAL = new AbortController().signal;

suite("a node that is lost for ever", { timeout: testTimeoutMs(300_000) }, () => {
  let directory: string;
  let store: Store;
  let snapshotStore: SnapshotStore;
  let control: Control;
  let actor: Actor;
  const machines = new Map<string, Machine>();

  const makeVolume = (slug: string, from: string | null = null) =>
    createVolume(control.app, actor, { slug, region: TEST_REGION, capacity: "300MB", from });
  const start = (volume: string, root = TEST_BASE_IMAGE) => {
    const wanted = { root: { volume: root }, volumes: { "/v": volume }, timeout: "600s" };
    const config = decodeSandboxConfig(Buffer.from(JSON.stringify(wanted)).toString("base64"), Date.now());
    return createSandbox(control.app, actor, config, null, SIGNAL);
  };
  const forgetLost = (id: string) => forgetNode(control.app, actor, id, { isLost: true });
  const draining = (id: string, isDraining: boolean) =>
    store.nodes.setDraining(id, isDraining, auditEvent(actor, "drain", { id, organizationId: "org_a" }));
  const verbsOf = async (id: string) => (await store.events.list("org_a", id, 9)).map(({ verb }) => verb);
  const lapse = (id: string): void => {
    using database = new DatabaseSync(join(directory, "caisson.db"));
    database.prepare("UPDATE nodes SET lease_until_ms = 1 WHERE id = ?").run(id);
  };

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-lost-"));
    store = openSqliteStore(join(directory, "caisson.db"));
    const organization = { id: "org_a", slug: ADMIN_ORGANIZATION, createdAtMs: 0 };
    const event = auditEvent(null, "set-up", { id: "a", organizationId: organization.id });
    await store.organizations.create(organization, event);
    actor = { organization, token: { id: "tok_a", organizationId: organization.id, name: "a", createdAtMs: 0 } };
    for (const id of ["nod_gone", "nod_stays"]) {
      await store.joining.createToken({ id: `jtk_${id}`, region: null }, Buffer.from(id), 60_000, event);
      const joining = { nodeId: id, keyFingerprint: id, address: `${id}:8485` };
      await store.joining.join(Buffer.from(id), joining, event);
      machines.set(id, await Machine.boot(id));
    }
    const objects = await openObjectStore({
      url: pathToFileURL(await mkdtemp(join(directory, "objects-"))).href,
      ...{ endpoint: null, region: null, isPathStyle: false, authorityPath: null },
    });
    const key = randomBytes(32);
    snapshotStore = new SnapshotStore({
      ...{ objects, memory: store.snapshotStore, place: "here" },
      ...{ installationKeys: async () => ({ current: key, next: null }), bytesPerSecond: null, graceMs: 3_600_000 },
    });
    control = new Control(directory, store, machines, snapshotStore);
    await control.remote.start(WAIT_MS);
  });

  after(async () => {
    await control[Symbol.asyncDispose]();
    for (const machine of machines.values()) await machine[Symbol.asyncDispose]();
    await store.close();
    await rm(directory, { recursive: true });
  });

  test("is forgotten with what it had, which is said before, while and after, and what is replicated comes back elsewhere", async (t) => {
    const machine = machines.get("nod_gone");
    assert.ok(machine);
    await draining("nod_stays", true);
    const volume = await makeVolume("data");
    const root = await makeVolume("root", TEST_BASE_IMAGE);
    assert.deepEqual([volume.owner.nodeId, root.owner.nodeId], ["nod_gone", "nod_gone"]);
    const copy = await createSnapshot(control.app, actor, "data", { slug: "copy" });
    const replicated = async (of: string, slug: string) => {
      const { id } = await createSnapshot(control.app, actor, of, { slug });
      const event = auditEvent(actor, "snapshot-replicate", { id, organizationId: "org_a" });
      const asked = await store.disks.requestReplication(id, Date.now(), event);
      await uploadSnapshot(control.app, snapshotStore, asked, SIGNAL);
      return id;
    };
    const far = await replicated("data", "far");
    await replicated("root", "far-root");
    const { id: sandboxId } = (await start("data")).record;
    await draining("nod_stays", false);
    await assert.rejects(forgetLost("nod_gone"), { code: "NODE_IN_USE", message: /is connected to it/ });

    // What is under way when it is lost for ever: an end, and a creation.
    machine.hanging.add("createDisk");
    const other = makeVolume("other").catch((error: unknown) => error);
    machine.cut();
    assert.equal(await killSandbox(control.app, actor, sandboxId).catch((error: unknown) => error), "stopping");
    await assert.rejects(forgetLost("nod_gone"), { code: "NODE_IN_USE", message: /it is live/ });
    lapse("nod_gone");
    // As right after a takeover, and right after it got another address.
    const { triedAddress } = machine;
    for (const tried of [null, { host: "nod_gone", port: 8486 }, { host: "nod_moved", port: 8485 }]) {
      machine.triedAddress = tried;
      await assert.rejects(forgetLost("nod_gone"), {
        code: "NODE_IN_USE",
        message: /not found out yet whether it can reach it at nod_gone:8485/,
      });
    }
    machine.triedAddress = triedAddress;
    const volumeNames = ["data", "root"].map((slug) => ({ organization: ADMIN_ORGANIZATION, slug }));
    const loss = await getNodeLoss(control.app, actor, "nod_gone");
    assert.deepEqual(
      { ...loss, volumeNames: loss.volumeNames.filter(({ slug }) => slug !== "other") },
      { volumes: loss.volumeNames.length, snapshots: 1, replicatedSnapshots: 2, sandboxes: 1, volumeNames },
    );

    // A crash before the commit leaves the intent, which the next start finishes.
    const failing = t.mock.method(store.nodes, "forget", async () => {
      throw new Error("the server is killed");
    });
    await assert.rejects(forgetLost("nod_gone"), /is killed/);
    await forgetLostNodes(control.app);
    failing.mock.restore();
    assert.notEqual((await store.nodes.get("nod_gone"))?.lostAtMs, null);
    await machine.mend();
    await assert.rejects(store.nodes.begin({ ...(await lostRow()), runId: "run_late" }, 60_000), {
      code: "NODE_UNAVAILABLE",
    });
    machine.cut();
    await forgetLostNodes(control.app);
    assert.equal(await store.nodes.get("nod_gone"), null);
    assert.deepEqual((await verbsOf("nod_gone")).slice(0, 2), ["node-forget", "node-give-up"]);
    await other;

    const row = await store.sandboxes.get("org_a", sandboxId);
    assert.equal(row?.status, "stopped");
    assert.deepEqual(await store.sandboxes.holders(volume.id), []);
    await eventually("the server has it no more", () => control.app.live.get(sandboxId) === undefined);

    const isLost = { code: "DISK_LOST", message: /node nod_gone that held it was forgotten on \d{4}-\d\d-\d\dT/ };
    await assert.rejects(start("data"), isLost);
    await assert.rejects(createSnapshot(control.app, actor, "data", { slug: "late" }), isLost);
    await assert.rejects(makeVolume("clone", "copy"), isLost);
    const { disks } = store;
    const rows = await Promise.all(
      [volume.id, copy.id, far].map(async (id) => (await disks.get(id)) ?? assert.fail(id)),
    );
    assert.deepEqual([...(await findProblems(control.app, rows)).keys()], [volume.id, copy.id]);
    assert.ok((await verbsOf(volume.id)).includes("volume-lose"));
    const { values } = await control.app.metrics.disksLost.get();
    assert.deepEqual(
      values.map(({ labels, value }) => [labels.kind, value]),
      [
        ["volume", loss.volumes],
        ["snapshot", 1],
      ],
    );

    // A crash before the commit that gives the snapshot to another node, and one after it.
    for (const isDone of [false, true]) {
      const rehome = disks.rehome.bind(disks);
      const killed = t.mock.method(disks, "rehome", async (...values: Parameters<typeof rehome>) => {
        if (isDone) await rehome(...values);
        throw new Error("the server is killed");
      });
      await assert.rejects(makeVolume("clone", "far"), /is killed/);
      killed.mock.restore();
      assert.equal((await disks.get(far))?.owner.nodeId, isDone ? "nod_stays" : "nod_gone");
    }
    const clone = await makeVolume("clone", "far");
    assert.equal(clone.owner.nodeId, "nod_stays");
    assert.equal((await disks.get(far))?.owner.nodeId, "nod_stays");
    const booted = await start("clone", "far-root");
    assert.equal(booted.record.owner.nodeId, "nod_stays");
    await killSandbox(control.app, actor, booted.record.id);

    assert.equal(await deleteDiskNow(control.app, actor, "volume", "data"), "purged");
    assert.equal(await disks.get(volume.id), null);
    await makeVolume("data");
    await purgeLost(control.app);
    assert.equal((await disks.get(copy.id))?.state, "ready", "it is shown until the retention is over");
    t.mock.timers.enable({ apis: ["Date"], now: Date.now() + control.app.config.volumes.retentionMs + 1000 });
    await purgeLost(control.app);
    t.mock.timers.reset();
    assert.equal(await disks.get(copy.id), null);
    assert.ok((await verbsOf(copy.id)).includes("snapshot-purge"));
  });

  test("is told that it was forgotten when it comes back, and leads nothing", async (t) => {
    const machine = machines.get("nod_gone");
    assert.ok(machine);
    machine.calls.length = 0;
    // A crash when it was told, and before that is written down: it is told again.
    const killed = t.mock.method(store.nodes, "setTold", async () => {
      throw new Error("the server is killed");
    });
    await control.remote.look();
    await machine.mend();
    await eventually("it is told", () => machine.forgottenAt !== null && killed.mock.callCount() > 0);
    killed.mock.restore();
    assert.equal((await store.nodes.listForgotten()).length, 1);
    machine.forgottenAt = null;
    await control.remote.look();
    await eventually("it is told", () => machine.forgottenAt !== null);
    assert.match(machine.forgottenAt ?? "", /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
    await eventually("nobody looks for it any more", async () => (await store.nodes.listForgotten()).length === 0);
    await control.remote.look();
    assert.deepEqual(machine.calls, []);
    assert.equal(control.app.nodes.get("nod_gone"), null);
  });

  async function lostRow() {
    return (await store.nodes.get("nod_gone")) ?? assert.fail("it is forgotten already");
  }
});
