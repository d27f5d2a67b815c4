import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import { testTimeoutMs } from "@caisson/linux/testing";
import { shell, TestClient } from "./support/client.ts";
import { FaultPlan } from "./support/fault-plan.ts";
import { TestServer } from "./support/server.ts";

const CLI = join(import.meta.dirname, "../packages/cli/src/main.ts");

suite("the installation key is rotated", { timeout: testTimeoutMs(1_800_000) }, () => {
  let parent: string;
  let plan: FaultPlan;
  let settings: string;
  let server: TestServer;
  let client: TestClient;
  const data = (name: string) => join(parent, name);
  const keys = (name: string) => join(server.dataDirectory, "keys", name);
  const caisson = (...args: readonly string[]) => {
    const env = { ...process.env, CAISSON_TOKEN: server.token, CAISSON_ENDPOINT: server.endpoint };
    return promisify(execFile)(process.execPath, [CLI, ...args], { env });
  };
  const exported = (...args: readonly string[]) => caisson("keys", "export", ...args, "--data", server.dataDirectory);
  const from = () => ["--from", `file://${data("store")}`];
  const drill = (key: string) => caisson("drill", ...from(), "--key", data(key), "--sample", "all");
  const replicate = async (slug: string) => {
    await client.snapshot("data", slug);
    await caisson("snapshots", "replicate", slug);
  };
  const rotate = (...args: readonly string[]) => caisson("keys", "rotate", ...args);
  const finish = (key: string, ...args: readonly string[]) => caisson("keys", "finish", "--key", data(key), ...args);
  /** What the API and the metrics say of a rotation. */
  const told = async () => {
    type Status = { readonly key_rotation: { readonly stage: string } | null };
    const { key_rotation: rotation } = await client.rest<Status>("GET", "/api/v1/snapshot-store");
    const metrics = await (await server.request("/metrics")).text();
    const seconds = Number(/^caisson_key_rotation_waiting_seconds (\S+)$/m.exec(metrics)?.[1]);
    return { stage: rotation?.stage ?? null, seconds };
  };
  const isUsable = async () => assert.match((await caisson("verify", "one")).stdout, /one +whole +whole/);

  before(async () => {
    parent = await mkdtemp(join(tmpdir(), "caisson-rotation-"));
    await chmod(parent, 0o755);
    await mkdir(data("store"));
    plan = new FaultPlan(parent);
    await plan.reset();
    settings = `[snapshot_store]\nurl = "file://${data("store")}"\nreplication = "none"\nbackup_every = "off"\n`;
    server = await TestServer.start({ env: plan.env, settings });
    client = new TestClient(server);
    Object.assign(process.env, server.clientEnv());
    await client.createVolume("data");
    await client.with({ volumes: { "/v": "data" } }, (sandbox) => shell(sandbox, "echo kept > /v/kept; sync"));
    await replicate("one");
    await client.rest("POST", "/api/v1/backups", {});
    await writeFile(data("old-key"), (await exported()).stdout);
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await rm(parent, { recursive: true });
  });

  test("killed at its steps, the store is whole after each start, and the next run goes on", async () => {
    assert.match((await rotate("--dry-run")).stdout, /opens 2 keys of organizations/);
    const killAt = async (tag: string, run: () => Promise<unknown>) => {
      await plan.at([{ tag, occurrence: 1 }], "kill");
      await assert.rejects(run());
      await server.exited();
      await plan.reset();
      await server.start();
      await isUsable();
    };
    const old = await readFile(data("old-key"), "utf8");
    await killAt("keys-rotate.wrap:after", rotate);
    const cut = await exported();
    assert.equal(cut.stdout, old, "the key in use is the one that it was");
    assert.match(cut.stderr, /a rotation is not finished: this is the key in use\. `caisson keys export --new`/);
    const { stdout: next, stderr: warning } = await exported("--new");
    assert.match(warning, /keep the former key as well/);
    await writeFile(data("new-key"), next);
    await assert.rejects(finish("new-key"), /none waits, .* `caisson keys rotate` begins one/, "it opens not all yet");
    await killAt("keys-rotate.commit:after", rotate);
    assert.equal((await exported()).stdout, old);
    const { stdout, stderr } = await rotate();
    assert.match(stdout, /The rotation waits for its finish: 2 keys of organizations open with the new key as well/);
    assert.match(stderr, /^warning: Keep the new key elsewhere: `caisson keys export --new` on the server/m);
    assert.equal((await exported("--new")).stdout, next, "the key is the same as before");
    await killAt("keys-finish.commit:after", () => finish("new-key"));
    assert.equal((await exported()).stdout, next, "the new key is in its place");
    await killAt("keys-finish.unwrap:after", () => finish("new-key"));
    assert.match(
      (await caisson("store", "get")).stderr,
      /another key than the one in use opens .* `caisson keys finish/,
    );
    const finished = await finish("new-key");
    assert.match(finished.stdout, /Finished the rotation: 2 keys of organizations open with the new key alone/);
    const former = /DATA\/keys\/(installation\.key\.former-\S+):/.exec(finished.stderr)?.[1] ?? "";
    assert.equal(await readFile(keys(former), "utf8"), old);
    assert.deepEqual((await readdir(keys(""))).sort(), ["installation.key", former].sort());
    for (const name of ["installation.key", former]) assert.equal((await stat(keys(name))).mode & 0o777, 0o600);
    assert.equal((await exported()).stderr, "");
    assert.deepEqual(await told(), { stage: null, seconds: 0 });
    assert.match((await finish("new-key")).stdout, /Finished the rotation/, "again is success");
  });

  test("both keys read everything until the new one is shown to be kept, and the former one nothing after that", async () => {
    const former = await readFile(data("new-key"), "utf8");
    await writeFile(data("old-key"), former);
    const { stdout, stderr } = await rotate("--json");
    assert.deepEqual([JSON.parse(stdout).outcome, JSON.parse(stdout).organizationKeys], ["waiting", 2]);
    assert.match(stderr, /^warning: .* `caisson keys finish --key FILE`/m, "scripts are told too");
    await writeFile(data("new-key"), (await exported("--new")).stdout);
    await server.stop();
    await server.start();
    await isUsable();
    await replicate("two");
    for (const key of ["old-key", "new-key"])
      assert.match((await drill(key)).stdout, /SNAPSHOTS +1 of 1 fetched and compared/, "of the backup before");
    const waiting = await told();
    assert.equal(waiting.stage, "waiting");
    assert.ok(waiting.seconds > 0);
    assert.match(
      (await caisson("store", "get")).stderr,
      /waits to be finished, and both keys open everything: keep what/,
    );
    assert.match((await caisson("df")).stderr, /a rotation of the installation key waits to be finished/);
    await assert.rejects(finish("old-key"), /the key that was given is the former one/);
    await writeFile(data("other-key"), `caisson-key-1:${"1".repeat(64)}\n`);
    await assert.rejects(finish("other-key"), /neither the new one nor the former one/);
    await writeFile(data("other-key"), "nonsense");
    await assert.rejects(finish("other-key"), /There is no installation key in/);
    await assert.rejects(finish("absent"), /does not exist/);
    await assert.rejects(caisson("keys", "finish", "--key", keys("installation.key.next")), /the server's own file/);
    assert.equal((await exported()).stdout, former, "nothing of that has changed anything");
    assert.equal(JSON.parse((await finish("new-key", "--json")).stdout).outcome, "finished");
    await isUsable();
    await assert.rejects(drill("old-key"), /the key that was given is a former one, which `caisson keys rotate`/);
    await writeFile(keys("installation.key"), former);
    await assert.rejects(caisson("store", "get"), /the file has another one\..* `caisson keys rotate` has replaced/);
    await writeFile(keys("installation.key"), await readFile(data("new-key")));
    await isUsable();
  });

  test("a key in use that is lost while a rotation waits is made good by the new one", async () => {
    await rotate();
    await writeFile(data("old-key"), (await exported()).stdout);
    await rm(keys("installation.key"));
    await assert.rejects(
      caisson("store", "get"),
      /While a rotation waits for `caisson keys finish`, the new key is good/,
    );
    await assert.rejects(
      caisson("store", "accept", "--new-key"),
      /Move it to keys\/installation\.key, and run `caisson/,
    );
    await rename(keys("installation.key.next"), keys("installation.key"));
    await caisson("store", "accept");
    await caisson("snapshots", "replicate", "one");
    await isUsable();
    assert.equal((await told()).stage, "finishing");
    await writeFile(data("new-key"), (await exported()).stdout);
    await finish("new-key");
    assert.equal((await told()).stage, null);
    await assert.rejects(drill("old-key"), /the key that was given is a former one/);
  });

  test("a new key that is lost while a rotation waits keeps nothing from being read, and another one is made", async () => {
    await rotate();
    await writeFile(data("lost-key"), (await exported("--new")).stdout);
    await rm(keys("installation.key.next"));
    assert.match((await caisson("store", "get")).stderr, /this server does not have the new one/);
    await assert.rejects(
      finish("lost-key"),
      /this server does not have the new one\. Put what `caisson keys export --new`/,
    );
    await replicate("three");
    await rotate();
    await assert.rejects(finish("lost-key"), /neither the new one nor the former one/);
    await writeFile(data("old-key"), (await exported()).stdout);
    await writeFile(data("new-key"), (await exported("--new")).stdout);
    await finish("new-key");
    await isUsable();
  });

  test("while the store is away nothing is changed, and others than administrators rotate nothing", async () => {
    const key = (await exported()).stdout;
    await rename(data("store"), data("away"));
    await assert.rejects(rotate(), /directory is not there/);
    assert.equal((await exported()).stdout, key);
    await rename(data("away"), data("store"));
    await client.rest("POST", "/api/v1/organizations", { slug: "tenant" });
    const made = await client.rest<{ token: string }>("POST", "/api/v1/tokens", { name: "t", organization: "tenant" });
    const headers = { authorization: `Bearer ${made.token}` };
    const path = "/api/v1/snapshot-store";
    const post = (name: string, json: object) => server.request(`${path}/${name}`, { method: "POST", headers, json });
    assert.equal((await post("rotate-key", {})).status, 403);
    assert.equal((await post("finish-key-rotation", { proof: "0".repeat(64) })).status, 403);
    for (const proof of ["", "0".repeat(63), "G".repeat(64), null])
      assert.equal((await post("finish-key-rotation", { proof })).status, 400);
  });

  test("a database of before the rotation knows the new key once an administrator accepts the store, and no other one", async () => {
    await server.stop();
    const database = new DatabaseSync(join(server.dataDirectory, "database/caisson.db"));
    database.exec("UPDATE snapshot_store SET key_fingerprint = NULL");
    database.close();
    // It remembers the one that it finds.
    await writeFile(keys("installation.key"), await readFile(data("old-key")));
    await server.start();
    await assert.rejects(caisson("store", "get"), /database is from before that, `caisson store accept` has it know/);
    await writeFile(keys("installation.key"), await readFile(data("new-key")));
    await assert.rejects(caisson("store", "get"), /the database is from before the rotation, `caisson store accept`/);
    await writeFile(keys("installation.key"), `caisson-key-1:${"1".repeat(64)}\n`);
    await assert.rejects(caisson("store", "accept"), /the file has another one/);
    await writeFile(keys("installation.key"), await readFile(data("new-key")));
    assert.match((await caisson("store", "accept")).stdout, /^Accepted the snapshot store/);
    await caisson("snapshots", "replicate", "one");
    await isUsable();
    assert.match((await rotate("--dry-run")).stdout, /opens 2 keys/);
  });

  test("a backup of before the rotation comes back with the new key of one that waits, and its server finishes that", async () => {
    await writeFile(data("old-key"), (await exported()).stdout);
    await rotate();
    await writeFile(data("new-key"), (await exported("--new")).stdout);
    await server.stop();
    await caisson("restore", ...from(), "--key", data("new-key"), "--data", data("second"));
    await server[Symbol.asyncDispose]();
    server = await TestServer.start({ dataDirectory: data("second"), settings });
    client = new TestClient(server);
    Object.assign(process.env, server.clientEnv());
    await client.createVolume("again", { from: "one" });
    const kept = await client.with({ volumes: { "/v": "again" } }, (sandbox) => shell(sandbox, "cat /v/kept"));
    assert.match(kept, /kept/);
    assert.equal((await told()).stage, "finishing");
    await finish("new-key");
    assert.equal((await told()).stage, null);
    await assert.rejects(drill("old-key"), /the key that was given is a former one/);
  });
});
