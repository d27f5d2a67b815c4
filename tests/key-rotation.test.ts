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

suite("the installation key is rotated", { timeout: testTimeoutMs(900_000) }, () => {
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
  const exported = () => caisson("keys", "export", "--data", server.dataDirectory);
  const from = () => ["--from", `file://${data("store")}`];
  const drill = (key: string) => caisson("drill", ...from(), "--key", data(key), "--sample", "all");
  const replicate = async (slug: string) => {
    await client.snapshot("data", slug);
    await caisson("snapshots", "replicate", slug);
  };
  const rotate = (...args: readonly string[]) => caisson("keys", "rotate", ...args);
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
    const killAt = async (tag: string) => {
      await plan.at([{ tag, occurrence: 1 }], "kill");
      await assert.rejects(rotate());
      await server.exited();
      await plan.reset();
      await server.start();
      await isUsable();
    };
    const old = await readFile(data("old-key"), "utf8");
    await killAt("keys-rotate.wrap:after");
    const cut = await exported();
    assert.equal(cut.stdout, old, "the key is the one that it was");
    assert.match(cut.stderr, /a rotation of the key was cut off: run `caisson keys rotate`/);
    await killAt("keys-rotate.commit:after");
    assert.notEqual((await exported()).stdout, old, "the new key is in its place");
    await killAt("keys-rotate.unwrap:after");
    const { stdout, stderr } = await rotate();
    assert.match(stdout, /Finished the rotation that was cut off: 2 keys/);
    assert.match(stderr, /^warning: Keep the new key elsewhere, now: `caisson keys export` on the server\. /m);
    const former = /DATA\/keys\/(installation\.key\.former-\S+):/.exec(stderr)?.[1] ?? "";
    assert.equal(await readFile(keys(former), "utf8"), old);
    assert.deepEqual((await readdir(keys(""))).sort(), ["installation.key", former].sort());
    for (const name of ["installation.key", former]) assert.equal((await stat(keys(name))).mode & 0o777, 0o600);
    assert.equal((await exported()).stderr, "");
  });

  test("the key that there was is refused with what to do, and the new one reads what is old and new", async () => {
    const [before] = (await readdir(keys(""))).filter((name) => name.includes("former"));
    const { stdout, stderr } = await rotate("--json");
    assert.deepEqual([JSON.parse(stdout).outcome, JSON.parse(stdout).organizationKeys], ["rotated", 2]);
    assert.match(stderr, /^warning: .* the new one lies on the server's disk alone/m, "scripts are told too");
    await isUsable();
    await replicate("two");
    await writeFile(data("new-key"), (await exported()).stdout);
    await assert.rejects(drill("old-key"), /the key that was given is a former one, which `caisson keys rotate`/);
    assert.match((await drill("new-key")).stdout, /SNAPSHOTS +1 of 1 fetched and compared/);
    await writeFile(keys("installation.key"), await readFile(keys(before ?? "")));
    await assert.rejects(caisson("store", "get"), /the file has another one\..* `caisson keys rotate` has replaced/);
    await writeFile(keys("installation.key"), await readFile(data("new-key")));
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
    const path = "/api/v1/snapshot-store/rotate-key";
    assert.equal((await server.request(path, { method: "POST", headers, json: {} })).status, 403);
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

  test("a backup of before the rotation comes back with the new key, and its server uses the store", async () => {
    await server.stop();
    await caisson("restore", ...from(), "--key", data("new-key"), "--data", data("second"));
    await server[Symbol.asyncDispose]();
    server = await TestServer.start({ dataDirectory: data("second"), settings });
    client = new TestClient(server);
    Object.assign(process.env, server.clientEnv());
    await client.createVolume("again", { from: "one" });
    const kept = await client.with({ volumes: { "/v": "again" } }, (sandbox) => shell(sandbox, "cat /v/kept"));
    assert.match(kept, /kept/);
    assert.match((await rotate()).stdout, /Rotated the installation key: 2 keys/);
  });
});
