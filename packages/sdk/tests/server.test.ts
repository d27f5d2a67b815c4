import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { TestServer } from "../../../tests/support/server.ts";
import {
  Client,
  ConflictError,
  ConnectionClosedError,
  ConnectionEstablishmentError,
  InvalidTokenError,
  NotFoundError,
  Sandbox,
} from "../src/index.ts";

suite("against a real server", () => {
  let server: TestServer;
  let options: { token: string; apiEndpoint: string };
  let client: Client;
  before(async () => {
    server = await TestServer.start();
    options = { token: server.token, apiEndpoint: server.endpoint };
    client = new Client(options);
  });
  after(() => server[Symbol.asyncDispose]());

  test("after close() the volume is free and durable: mounted, snapshotted and deleted without waiting", async () => {
    const { id } = await client.volumes.create({ slug: "free", region: "ord", capacity: "1GB" });
    for (let round = 0; round < 5; round += 1) {
      await using sandbox = await client.sandboxes.create({ volumes: { "/data": id } });
      assert.equal((await client.volumes.get(id))?.attachedTo, sandbox.id);
      await sandbox.sh`echo ${round} >> /data/rounds`;
    }
    assert.equal((await client.volumes.get(id))?.attachedTo, null);
    const snapshot = await client.volumes.snapshot(id, { slug: "free-1", labels: { made: "now" } });
    assert.equal(snapshot.consistency, "clean");
    assert.deepEqual(snapshot.labels, { made: "now" });
    await client.volumes.delete(id);
    await using sandbox = await client.sandboxes.create();
    assert.equal((await client.sandboxes.get(sandbox.id))?.status, "running");
    await client.snapshots.delete("free-1");
  });

  test("a deleted volume is listed as such and comes back with its data", async () => {
    const volume = await client.volumes.create({
      slug: "lost",
      region: "ord",
      capacity: "300MB",
      labels: { team: "a" },
    });
    {
      await using sandbox = await client.sandboxes.create({ volumes: { "/data": "lost" } });
      await sandbox.fs.writeTextFile("/data/x", "still here");
    }
    await client.volumes.delete("lost");
    assert.equal(await client.volumes.get(volume.id), null);
    const deleted = await client.volumes.list({ deleted: true, search: "lost" });
    assert.deepEqual(
      deleted.items.map(({ id }) => id),
      [volume.id],
    );
    assert.ok((deleted.items[0]?.purgeAt?.getTime() ?? 0) > Date.now() + 23 * 3_600_000);
    const restored = await client.volumes.restore(volume.id, { slug: "found" });
    assert.deepEqual([restored.slug, restored.deletedAt, restored.labels], ["found", null, { team: "a" }]);
    await using sandbox = await client.sandboxes.create({ volumes: { "/data": "found" } });
    assert.equal(await sandbox.fs.readTextFile("/data/x"), "still here");
    await sandbox.kill();
    await client.volumes.delete("found");
  });

  test("a volume grows and keeps its data, and its labels are replaced and searched for", async () => {
    const volume = await client.volumes.create({ slug: "small", region: "ord", capacity: "300MB" });
    const grown = await client.volumes.grow("small", { capacity: "1GiB" });
    assert.deepEqual([grown.id, grown.capacity], [volume.id, 2 ** 30]);
    await client.volumes.update("small", { labels: { stage: "x y", "k:1": "ü" } });
    const found = await client.volumes.list({ labels: { stage: "x y", "k:1": "ü" } });
    assert.deepEqual(
      found.items.map(({ slug }) => slug),
      ["small"],
    );
    assert.deepEqual((await client.volumes.list({ labels: { stage: "other" } })).items, []);
    await client.volumes.delete("small");
  });

  test("many sandboxes read one volume at a time, and none of them can write it", async () => {
    await client.volumes.create({ slug: "shared", region: "ord", capacity: "300MB" });
    {
      await using writer = await client.sandboxes.create({ volumes: { "/data": "shared" } });
      await writer.fs.writeTextFile("/data/x", "once");
    }
    const volumes = { "/data": { volume: "shared", readOnly: true } };
    const readers = await Promise.all([1, 2, 3].map(() => client.sandboxes.create({ volumes })));
    for (const reader of readers) {
      assert.equal(await reader.fs.readTextFile("/data/x"), "once");
      await assert.rejects(reader.fs.writeTextFile("/data/x", "twice"), { code: "EROFS" });
    }
    await Promise.all(readers.map((reader) => reader.close()));
    await client.volumes.delete("shared");
  });

  test("a snapshot of a volume in use is frozen, and lineage shows what came from what", async () => {
    const volume = await client.volumes.create({ slug: "origin", region: "ord", capacity: "300MB" });
    const sandbox = await client.sandboxes.create({ volumes: { "/data": "origin" } });
    await sandbox.fs.writeTextFile("/data/x", "before");
    const snapshot = await client.volumes.snapshot("origin", { slug: "instant" });
    assert.equal(snapshot.consistency, "frozen");
    await sandbox.fs.writeTextFile("/data/x", "after");
    await sandbox.close();
    const clone = await client.volumes.create({ slug: "copy", region: "ord", capacity: "300MB", from: "instant" });
    assert.deepEqual(clone.parent, { kind: "snapshot", id: snapshot.id, slug: "instant" });
    await using reader = await client.sandboxes.create({ volumes: { "/copy": "copy" } });
    assert.equal(await reader.fs.readTextFile("/copy/x"), "before");
    const descendants = await client.volumes.descendants(volume.id);
    assert.deepEqual(descendants.map(({ kind, slug, parentId }) => [kind, slug, parentId]).sort(), [
      ["snapshot", "instant", volume.id],
      ["volume", "copy", snapshot.id],
    ]);
    assert.deepEqual(
      (await client.snapshots.descendants("instant")).map(({ slug }) => slug),
      ["copy"],
    );
    await reader.kill();
    for (const slug of ["origin", "copy"]) await client.volumes.delete(slug);
    await client.snapshots.delete("instant");
  });

  test("a creation with the caller's own key happens once", async () => {
    const init = { slug: "once", region: "ord", capacity: "300MB" } as const;
    const first = await client.volumes.create(init, { idempotencyKey: "key-1" });
    const second = await client.volumes.create(init, { idempotencyKey: "key-1" });
    assert.equal(second.id, first.id);
    const other = client.volumes.create({ ...init, slug: "other" }, { idempotencyKey: "key-1" });
    await assert.rejects(other, { name: "ConflictError", code: "IDEMPOTENCY_KEY_REUSED" });
    await client.volumes.delete("once");
  });

  test("refusals carry class, code, hint and request id", async () => {
    await client.volumes.create({ slug: "held", region: "ord", capacity: "300MB" });
    const again = await client.volumes
      .create({ slug: "held", region: "ord", capacity: "300MB" })
      .catch((error) => error);
    assert.ok(again instanceof ConflictError);
    assert.equal(again.code, "SLUG_ALREADY_IN_USE");
    assert.ok(again.hint && again.requestId);
    const holder = await client.sandboxes.create({ volumes: { "/data": "held" } });
    const refused = await client.sandboxes.create({ volumes: { "/data": "held" } }).catch((error) => error);
    assert.ok(refused instanceof ConnectionEstablishmentError);
    assert.deepEqual([refused.status, refused.code], [409, "VOLUME_IN_USE"]);
    await assert.rejects(client.volumes.delete("held"), { code: "VOLUME_IN_USE" });
    await client.sandboxes.kill(holder.id);
    await holder.closed;
    await assert.rejects(client.sandboxes.kill(holder.id), NotFoundError);
    await client.volumes.delete("held");
    await assert.rejects(client.volumes.delete("held"), NotFoundError);
  });

  test("tokens and organizations are created, used and revoked, and see only what is theirs", async () => {
    await client.organizations.create({ slug: "acme" });
    assert.ok((await client.organizations.list()).some(({ slug }) => slug === "acme"));
    const { token } = await client.tokens.create({ name: "theirs", organization: "acme" });
    const theirs = new Client({ ...options, token });
    await client.volumes.create({ slug: "ours", region: "ord", capacity: "300MB" });
    assert.equal(await theirs.volumes.get("ours"), null);
    const spare = await theirs.tokens.create({ name: "spare" });
    assert.deepEqual((await theirs.tokens.list()).map(({ name }) => name).sort(), ["spare", "theirs"]);
    await theirs.tokens.delete(spare.id);
    await assert.rejects(new Client({ ...options, token: spare.token }).volumes.list(), InvalidTokenError);
    await assert.rejects(Sandbox.create({ ...options, token: spare.token }), InvalidTokenError);
    await client.volumes.delete("ours");
  });

  test("a terminal in a sandbox has the size that was asked for", async () => {
    await using sandbox = await client.sandboxes.create();
    const terminal = await sandbox.terminal({ columns: 101, rows: 31, command: "stty size; test -t 0; exit $?" });
    assert.equal(await new Response(terminal.output).text(), "31 101\r\n");
    assert.equal((await terminal.status).code, 0);
  });

  test("a sandbox that is killed elsewhere tells a program in it when and why, as one error", async () => {
    const startMs = Date.now();
    const use = async () => {
      await using sandbox = await client.sandboxes.create();
      await using child = await sandbox.spawn("sleep", { args: ["100"] });
      await client.sandboxes.kill(sandbox.id);
      await child.status;
    };
    await assert.rejects(use, (error) => {
      assert.ok(error instanceof ConnectionClosedError, String(error));
      assert.equal(error.stopReason, "killed");
      const stoppedMs = Number(error.stoppedAt);
      assert.ok(startMs <= stoppedMs && stoppedMs <= Date.now(), String(error.stoppedAt));
      return true;
    });
  });

  test("a sandbox knows the end that the server keeps to, and is told when that is earlier than was asked for", async () => {
    const told: Date[] = [];
    const onShortened = (end: Date): void => void told.push(end);
    await using allowed = await client.sandboxes.create({ timeout: "30m", onShortened });
    assert.deepEqual(told, []);
    await using sandbox = await client.sandboxes.create({ timeout: "31m", onShortened });
    assert.deepEqual([sandbox.stopAt], told);
    assert.deepEqual((await client.sandboxes.get(sandbox.id))?.stopAt, sandbox.stopAt);
    const extended = await sandbox.extendTimeout("30m");
    assert.deepEqual(sandbox.stopAt, extended);
    await Promise.all([allowed.kill(), sandbox.kill()]);
  });

  test("an extended session outlives its connection", async () => {
    const sandbox = await client.sandboxes.create();
    const end = await sandbox.extendTimeout("5m");
    assert.equal(sandbox.stopAt, null, "its creator may stay longer");
    await sandbox.close();
    assert.equal((await client.sandboxes.get(sandbox.id))?.status, "running");
    assert.ok((await client.sandboxes.extendTimeout(sandbox.id, "10m")) > end);
    await using again = await client.sandboxes.connect(sandbox.id);
    assert.equal((await again.sh`echo yes`.text()).trim(), "yes");
    await again.kill();
    const ended = await client.sandboxes.get(sandbox.id);
    assert.equal(ended?.status, "stopped");
    assert.ok(ended.stoppedAt instanceof Date);
  });
});
