import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { openSqliteStore, type Store } from "@caisson/database";
import { sampleDisk, sampleEvent, sampleNode, sampleUsage } from "@caisson/database/testing";
import { openObjectStore } from "@caisson/objects";
import { CHUNK_BYTES, type SnapshotHeader, SnapshotStore } from "@caisson/snapshot-store";
import { sourceOf } from "@caisson/snapshot-store/testing";
import pino from "pino";
import { backUp } from "../app/backups/backup-create.ts";
import { BackupWatch } from "../app/backups/backup-watch.ts";
import type { AppContext } from "../app/context.ts";
import { RestoredDisks } from "../app/restored/restored-disks.ts";
import { parseSnapshotStore } from "../snapshot-store/snapshot-store-config.ts";
import { drill } from "./drill.ts";
import { type RestoreOptions, restore } from "./restore.ts";
import { requireRestored } from "./restore-target.ts";

const SIGNAL = new AbortController().signal;
const ORGANIZATION = { id: "org_a", slug: "default", createdAtMs: 1 };

/** A server's rows, key and store without the server: what a restore finds, and what is left of the lost machine. */
suite("an installation comes back from its store", () => {
  let parent: string;
  let store: Store;
  let far: SnapshotStore;
  let app: AppContext;
  let volumeId: string;
  let snapshotId: string;
  const key = randomBytes(32);
  const at = (name: string) => join(parent, name);
  const address = () => ({ url: `file://${at("store")}`, ...NOTHING });
  const options = (dataDirectory: string, over: Partial<RestoreOptions> = {}): RestoreOptions => {
    const config = parseSnapshotStore({ url: address().url });
    assert.ok(config);
    const asked = { backupId: null, areNodesLost: false, isFetched: false };
    return { store: config, address: address(), key, dataDirectory: at(dataDirectory), ...asked, ...over };
  };
  const stored = async () => (await readdir(at("store"), { recursive: true })).sort();
  const backup = () => backUp(app, far, { isAutomatic: true }, SIGNAL);
  const rehearse = (over: Partial<RestoreOptions> = {}) =>
    drill({ ...options(""), sampleCount: null, ...over }, SIGNAL);

  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), "caisson-restore-"));
    await chmod(parent, 0o755);
    for (const name of ["store", "first", "first/database", "first/ssh"]) await mkdir(at(name));
    store = openSqliteStore(at("first/database/caisson.db"));
    await store.organizations.create(ORGANIZATION, sampleEvent(ORGANIZATION.id));
    await store.organizations.createToken(
      { id: "tok_1", organizationId: ORGANIZATION.id, name: "ci", createdAtMs: 2 },
      Buffer.from("hash"),
      sampleEvent("tok_1"),
    );
    await store.nodes.begin(sampleNode(), 60_000);
    const objects = await openObjectStore(options("").store);
    far = new SnapshotStore({
      ...{ objects, installationKeys: async () => ({ current: key, next: null }), memory: store.snapshotStore },
      ...{ place: "first", bytesPerSecond: null, graceMs: 3_600_000 },
    });
    const make = async (slug: string, values: Partial<Parameters<typeof sampleDisk>[0]>) => {
      const disk = sampleDisk({ organizationId: ORGANIZATION.id, slug, ...values });
      await store.disks.reserve(disk);
      const committed = { consistency: disk.consistency, ...sampleUsage() };
      return store.disks.commit(disk.id, committed, sampleEvent(disk.id));
    };
    ({ id: volumeId } = await make("data", {}));
    await make("only-here", {});
    const parentOf = { kind: "volume", id: volumeId, slug: "data" } as const;
    ({ id: snapshotId } = await make("data-1", { kind: "snapshot", consistency: "clean", parent: parentOf }));
    const image = randomBytes(2 * CHUNK_BYTES);
    const result = await far.upload(
      { organizationId: ORGANIZATION.id, id: snapshotId },
      headerFor(image),
      sourceOf(image),
      SIGNAL,
    );
    await store.disks.requestReplication(snapshotId, 1, null);
    await store.disks.finishReplication(snapshotId, result, 2, sampleEvent(snapshotId));
    const configPath = at("first/caisson.toml");
    await writeFile(configPath, `# ours\n[snapshot_store]\nurl = "${address().url}"\n`);
    await writeFile(at("first/ssh/host_key"), "a key", { mode: 0o600 });
    app = {
      ...{ store, config: { configPath }, backups: new BackupWatch(at("first")) },
      logger: pino({ level: "silent" }),
    } as unknown as AppContext;
  });
  afterEach(async () => {
    await far[Symbol.asyncDispose]();
    await store.close();
    await rm(parent, { recursive: true });
  });

  test("rows, files and the key are there, and what is to be made again; the lost server may not write any more", async () => {
    const { id } = await backup();
    const report = await restore(options("second", { isFetched: true }), SIGNAL);
    assert.equal(report.backupId, id);
    assert.deepEqual(
      report.disks.map(({ slug, outcome }) => `${slug} ${outcome}`),
      ["data-1 stored", "data from-snapshot", "only-here lost"],
    );
    assert.deepEqual((await readdir(at("second"))).sort(), [
      ...["caisson.toml", "database", "keys", "restored.json", "server.lock", "ssh"],
    ]);
    assert.match(await readFile(at("second/caisson.toml"), "utf8"), /^# ours\n/);
    assert.equal(await readFile(at("second/ssh/host_key"), "utf8"), "a key");
    assert.equal(await readFile(at("second/keys/installation.key"), "utf8"), `caisson-key-1:${key.toString("hex")}\n`);
    for (const path of ["ssh/host_key", "keys/installation.key"])
      assert.equal((await stat(at(join("second", path)))).mode & 0o777, 0o600, path);
    await requireRestored(at("second"));
    const left = await RestoredDisks.open(at("second"));
    assert.equal(left.snapshotOf(volumeId), snapshotId);
    assert.deepEqual(left.pending(), [volumeId, snapshotId]);
    await left.settle(volumeId);
    assert.deepEqual((await RestoredDisks.open(at("second"))).pending(), [snapshotId]);
    await left.settle(snapshotId);
    assert.ok(!(await readdir(at("second"))).includes("restored.json"));

    await assert.rejects(backup(), { code: "SNAPSHOT_STORE_UNAVAILABLE", message: /another server/ });
    assert.match(app.backups.failure?.message ?? "", /another server/);
    const rows = openSqliteStore(at("second/database/caisson.db"));
    const objects = await openObjectStore(options("").store);
    await using taken = new SnapshotStore({
      ...{ objects, installationKeys: async () => ({ current: key, next: null }), memory: rows.snapshotStore },
      ...{ place: "second", bytesPerSecond: null, graceMs: 3_600_000 },
    });
    const next = { ...app, store: rows, backups: new BackupWatch(at("second")) };
    const made = await backUp(next, taken, { isAutomatic: true }, SIGNAL);
    assert.ok(made.atMs > Date.parse(report.at));
    assert.notEqual(await rows.organizations.findToken(Buffer.from("hash")), null);
    await rows.close();
  });

  test("nothing is restored over something, and what was cut off is begun anew", async () => {
    await backup();
    await mkdir(at("full"));
    await writeFile(at("full/mine"), "");
    await assert.rejects(restore(options("full"), SIGNAL), {
      code: "INVALID_CONFIG",
      message: /it is not empty \(mine\)/,
    });
    assert.deepEqual((await readdir(at("full"))).sort(), ["mine", "server.lock"]);
    await mkdir(at("cut/database"), { recursive: true });
    await writeFile(at("cut/restore.json"), "{}");
    await writeFile(at("cut/database/restoring.db"), "half of it");
    await assert.rejects(requireRestored(at("cut")), { code: "INVALID_CONFIG", message: /was cut off/ });
    await restore(options("cut"), SIGNAL);
    await requireRestored(at("cut"));
    await assert.rejects(restore(options("cut"), SIGNAL), /it is not empty/);
  });

  test("another key, an empty store, a store that is away and an unknown backup are refused, and leave an intent alone", async () => {
    await backup();
    await assert.rejects(
      restore(options("a", { key: randomBytes(32) }), SIGNAL),
      /the key of this installation does not fit/,
    );
    await assert.rejects(restore(options("b", { backupId: "20000101T000000Z-00000000" }), SIGNAL), {
      code: "NOT_FOUND",
    });
    await rename(at("store"), at("away"));
    await assert.rejects(restore(options("c"), SIGNAL), /directory is not there/);
    await mkdir(at("store"));
    await assert.rejects(restore(options("d"), SIGNAL), { code: "NOT_FOUND", message: /There is no backup/ });
    await rm(at("store"), { recursive: true });
    await rename(at("away"), at("store"));
    for (const name of ["a", "b", "c", "d"]) await assert.rejects(requireRestored(at(name)), /was cut off/);
    await restore(options("c"), SIGNAL);
  });

  test("of a backup that is not whole the one before is taken, and that is told", async () => {
    const older = await backup();
    const newer = await backup();
    const path = at(`store/backups/${newer.id}`);
    await writeFile(path, (await readFile(path)).subarray(0, -1));
    const report = await rehearse();
    assert.deepEqual(
      [report.backupId, report.skipped.map(({ id }) => id), report.isWhole],
      [older.id, [newer.id], false],
    );
    await assert.rejects(
      restore(options("x", { backupId: newer.id }), SIGNAL),
      /No backup in the snapshot store is whole/,
    );
  });

  test("a drill fetches every snapshot, changes nothing, leaves nothing, and the server goes on", async () => {
    await backup();
    const before = await stored();
    const temporary = async () => (await readdir(tmpdir())).filter((name) => name.startsWith("caisson-drill-"));
    const report = await rehearse();
    assert.equal(report.isWhole, true);
    assert.deepEqual(report.snapshots, { count: 1, fetched: 1, fetchedBytes: 2 * CHUNK_BYTES });
    assert.ok(report.rpo.rowsMs >= 0 && (report.rpo.oldestVolumeMs ?? -1) > 0 && report.rto.allMs !== null);
    assert.deepEqual(await stored(), before);
    assert.deepEqual(await temporary(), []);
    assert.equal((await rehearse({ key })).isWhole, true);
    await backup();
  });

  test("a drill reads what other machines have replicated as well, and goes on after one that cannot be read", async () => {
    const other = await store.nodes.begin(sampleNode({ id: "nod_other", address: "other:1" }), 60_000);
    const theirs = sampleDisk({
      ...{ organizationId: ORGANIZATION.id, slug: "theirs", kind: "snapshot", consistency: "clean" },
      owner: { nodeId: other.id, generation: other.generation },
    });
    await store.disks.reserve(theirs);
    await store.disks.commit(theirs.id, { consistency: "clean", ...sampleUsage() }, sampleEvent(theirs.id));
    await store.disks.requestReplication(theirs.id, 1, null);
    const result = { manifest: `manifests/org_a/${theirs.id}`, storedBytes: 1, readBytes: 1, sentBytes: 1 };
    await store.disks.finishReplication(theirs.id, result, 2, sampleEvent(theirs.id));
    await backup();
    const { snapshots, damaged, isWhole } = await rehearse();
    assert.deepEqual([snapshots.count, snapshots.fetched, isWhole], [2, 1, false]);
    assert.deepEqual(
      damaged.map(({ slug }) => slug),
      ["theirs"],
    );
    assert.match(damaged[0]?.problem ?? "", /its manifest is missing/);
  });

  test("a drill tells of each snapshot that is replicated and does not come back", async () => {
    await backup();
    const [chunk] = (await stored()).filter((path) => /^chunks\/org_a\/.*-[0-9a-f]{8}$/.test(path));
    assert.ok(chunk);
    await rename(join(at("store"), chunk), at("chunk"));
    const before = await stored();
    const missing = await rehearse();
    assert.equal(missing.isWhole, false);
    assert.match(missing.damaged[0]?.problem ?? "", /is missing/);
    assert.equal(missing.damaged[0]?.slug, "data-1");
    assert.deepEqual(
      missing.disks.map(({ outcome }) => outcome),
      ["damaged", "from-snapshot", "lost"],
    );
    await writeFile(join(at("store"), chunk), (await readFile(at("chunk"))).fill(7, 40, 41));
    assert.match((await rehearse()).damaged[0]?.problem ?? "", /is damaged/);
    assert.deepEqual(await stored(), [...before, chunk].sort(), "a drill marks nothing");
    await rm(join(at("store"), "manifests"), { recursive: true });
    const purged = await rehearse();
    assert.equal(purged.isWhole, false);
    assert.deepEqual(
      purged.disks.map(({ outcome }) => outcome),
      ["purged", "lost", "lost"],
    );
  });
});

const NOTHING = { endpoint: undefined, region: undefined, path_style: undefined, ca: undefined };

function headerFor(image: Buffer) {
  return {
    ...{ sizeBytes: image.length, dataBytes: image.length, slug: "data-1", labels: {}, isBootable: false },
    fileSystem: { type: "ext4" as const, uuid: "0".repeat(32), sizeBytes: image.length },
    consistency: "clean" as const,
    ...{ createdAt: "2026-11-27T12:00:00Z", parent: null },
    origin: { snapshotId: "snp_1", region: "ord", volume: null, baseSnapshot: null },
  } satisfies Omit<SnapshotHeader, "chunkBytes">;
}
