import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import { testTimeoutMs } from "@caisson/linux/testing";
import { shell, TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { TestServer } from "./support/server.ts";

const CLI = join(import.meta.dirname, "../packages/cli/src/main.ts");
const TIMEOUT_MS = 60_000;

interface Overview {
  readonly problem: string | null;
  readonly error: string | null;
  readonly backups: readonly { readonly id: string; readonly automatic: boolean }[];
}

suite("backups", { timeout: testTimeoutMs(900_000) }, () => {
  let parent: string;
  let directory: string;
  let server: TestServer;
  let client: TestClient;

  before(async () => {
    parent = await mkdtemp(join(tmpdir(), "caisson-backups-"));
    directory = join(parent, "store");
    await mkdir(directory);
    server = await TestServer.start();
    await restart('backup_every = "off"\n');
    client = new TestClient(server);
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await rm(parent, { recursive: true });
  });
  const restart = async (more: string): Promise<void> => {
    await server.stop();
    await server.writeSettings(`[snapshot_store]\nurl = "file://${directory}"\n${more}`);
    await server.start();
  };
  const overview = () => client.rest<Overview>("GET", "/api/v1/backups");
  const caisson = async (...args: readonly string[]) => {
    const env = { ...process.env, CAISSON_TOKEN: server.token, CAISSON_ENDPOINT: server.endpoint };
    return promisify(execFile)(process.execPath, [CLI, ...args], { env });
  };

  test("a backup is made, listed and deleted by hand, nothing in it is in the clear, and two at once are two", async () => {
    await client.createVolume("a-name-that-must-not-leak");
    const { stdout } = await caisson("backup", "create");
    const id = /^Made backup (\S+): /.exec(stdout)?.[1];
    assert.ok(id, stdout);
    assert.match((await caisson("backup", "list")).stdout, new RegExp(`${id} .* hand`));
    for (const entry of await readdir(directory, { recursive: true, withFileTypes: true }))
      if (entry.isFile())
        assert.ok(!(await readFile(join(entry.parentPath, entry.name))).includes("a-name-that-must-not-leak"));
    await Promise.all([1, 2].map(() => client.rest("POST", "/api/v1/backups", {})));
    const { backups } = await overview();
    assert.equal(new Set(backups.map((backup) => backup.id)).size, 3);
    await caisson("backup", "delete", id);
    assert.equal((await overview()).backups.length, 2);
    await assert.rejects(caisson("backup", "delete", id), /There is no backup/);
    assert.deepEqual(
      await readdir(join(server.dataDirectory, "database")).then((names) => names.includes("backup.db")),
      false,
    );
  });

  test("others than administrators see and make none", async () => {
    await client.rest("POST", "/api/v1/organizations", { slug: "tenant" });
    const { token } = await client.rest<{ token: string }>("POST", "/api/v1/tokens", {
      name: "t",
      organization: "tenant",
    });
    for (const [method, path] of [
      ["GET", "/api/v1/backups"],
      ["POST", "/api/v1/backups"],
      ["DELETE", "/api/v1/backups/20261127T175200Z-0a1b2c3d"],
    ] as const) {
      const response = await server.request(path, { method, headers: { authorization: `Bearer ${token}` } });
      assert.equal(response.status, 403, `${method} ${path}`);
    }
  });

  test("by the settings they are made by themselves; while the store is away that is told, and made up for when it is back", async () => {
    await restart('backup_every = "2s"\n');
    const newest = async () => (await overview()).backups.find(({ automatic }) => automatic)?.id ?? null;
    const first = await eventually("a backup by the schedule", newest, TIMEOUT_MS);
    await eventually("the next one", async () => ((await newest()) === first ? null : true), TIMEOUT_MS);
    assert.match(await (await server.request("/metrics")).text(), /^caisson_backup_age_seconds \d/m);
    const away = join(parent, "away");
    await rename(directory, away);
    await eventually(
      "a failure in the metrics",
      async () =>
        /^caisson_background_errors_total\{work="backup"\} [1-9]/m.test(await (await server.request("/metrics")).text())
          ? true
          : null,
      TIMEOUT_MS,
    );
    const [code] = await client.refused("POST", "/api/v1/backups", {});
    assert.equal(code, "503 SNAPSHOT_STORE_UNAVAILABLE");
    assert.match((await caisson("df")).stderr, /nobody knows how old the newest backup is/);
    await rename(away, directory);
    const last = await newest();
    await eventually("one after the store is back", async () => ((await newest()) === last ? null : true), TIMEOUT_MS);
    // It is in the list before it has been read back.
    await eventually("no failure", async () => ((await overview()).error === null ? true : null), TIMEOUT_MS);
  });

  test("a server without a store says so", async () => {
    await server.stop();
    await server.writeSettings();
    await server.start();
    const [code, message] = await client.refused("POST", "/api/v1/backups", {});
    assert.equal(code, "501 NOT_SUPPORTED");
    assert.match(message, /snapshot_store\.url/);
    assert.equal((await caisson("df")).stderr, "");
  });
});

suite("a machine is lost", { timeout: testTimeoutMs(900_000) }, () => {
  let parent: string;
  let settings: string;
  let keyFile: string;
  let server: TestServer;
  let client: TestClient;
  let sum: string;
  let tenantToken: string;
  const data = (name: string) => join(parent, name);
  const from = () => `file://${data("store")}`;
  const checksum = (volume: string) =>
    client.with({ volumes: { "/v": volume } }, (sandbox) => shell(sandbox, "sha256sum < /v/noise"));
  const use = () => Object.assign(process.env, server.clientEnv());
  const caisson = async (...args: readonly string[]) => promisify(execFile)(process.execPath, [CLI, ...args]);
  const restoreTo = (directory: string, ...more: readonly string[]) =>
    caisson("restore", "--from", from(), "--key", keyFile, "--data", directory, ...more);
  const drill = (...more: readonly string[]) => caisson("drill", "--from", from(), "--key", keyFile, ...more);
  const stored = async () => (await readdir(data("store"), { recursive: true })).sort();
  const startOn = async (dataDirectory: string) => {
    server = await TestServer.start({ dataDirectory, settings });
    client = new TestClient(server);
    use();
  };

  before(async () => {
    parent = await mkdtemp(join(tmpdir(), "caisson-lost-"));
    await chmod(parent, 0o755);
    await mkdir(data("store"));
    await mkdir(data("first"));
    settings = `[snapshot_store]\nurl = "${from()}"\nreplication = "labelled"\nbackup_every = "off"\n`;
    await startOn(data("first"));
    keyFile = data("key");
    await client.createVolume("data");
    await client.createVolume("only-here");
    await client.with({ volumes: { "/v": "data" } }, (sandbox) =>
      shell(sandbox, "head -c 3M /dev/urandom > /v/noise; sync"),
    );
    sum = await checksum("data");
    await client.snapshot("data", "data-1");
    await caissonAs(server, "snapshots", "replicate", "data-1");
    await client.rest("POST", "/api/v1/organizations", { slug: "tenant" });
    const made = await client.rest<{ token: string }>("POST", "/api/v1/tokens", { name: "t", organization: "tenant" });
    tenantToken = made.token;
    await client.with({ volumes: { "/v": "data" } }, (sandbox) => shell(sandbox, "echo later > /v/later; sync"));
    await client.rest("POST", "/api/v1/backups", {});
    await writeFile(keyFile, (await caisson("keys", "export", "--data", data("first"))).stdout);
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await rm(parent, { recursive: true });
  });

  test("a drill beside the running server says that all comes back, how old and how soon, changes nothing and leaves nothing", async () => {
    const before = await stored();
    const temporary = async () => (await readdir(tmpdir())).filter((name) => name.startsWith("caisson-drill-"));
    const { stdout, stderr } = await drill("--sample", "all");
    assert.match(stdout, /SNAPSHOTS +1 of 1 fetched and compared/);
    assert.match(stdout, /RPO +[\d.]+s of the rows/);
    assert.match(stdout, /RTO +[\d.]+s until the rows are there, [\d.]+s with all/);
    assert.match(stderr, /volume only-here of default: LOST/);
    assert.deepEqual(await stored(), before);
    assert.deepEqual(await temporary(), []);
    const other = data("other-key");
    await writeFile(other, `caisson-key-1:${"0".repeat(64)}\n`);
    await assert.rejects(
      caisson("drill", "--from", from(), "--key", other),
      /the key of this installation does not fit/,
    );
  });

  test("a drill fails when a snapshot that claims to be replicated does not come back, and says which", async () => {
    const [chunk] = (await stored()).filter((path) => /^chunks\/org_.*\/[0-9a-f]{64}-/.test(path));
    assert.ok(chunk);
    await rename(join(data("store"), chunk), data("chunk"));
    await assert.rejects(drill("--sample", "all"), /data-1 of default: Cannot read .* is missing/);
    await rename(data("chunk"), join(data("store"), chunk));
    const empty = data("empty");
    await mkdir(empty);
    const nothing = caisson("drill", "--from", `file://${empty}`, "--key", keyFile);
    await assert.rejects(nothing, /There is no backup in the snapshot store/);
  });

  test("a restore that is killed at any of its steps is begun anew, and no server starts before it is done", async () => {
    const plan = data("plan");
    const trace = data("trace");
    const env = { ...process.env, CAISSON_FAULT_PLAN: plan, CAISSON_FAULT_TRACE: trace };
    const run = (directory: string) =>
      promisify(execFile)(process.execPath, [CLI, "restore", "--from", from(), "--key", keyFile, "--data", directory], {
        env,
      });
    await writeFile(plan, "");
    await server.kill();
    await run(data("traced"));
    const tags = [...new Set((await readFile(trace, "utf8")).split("\n").map((line) => line.split(" ")[0] ?? ""))];
    const steps = tags.filter((tag) => /^restore.*:after$/.test(tag));
    assert.ok(steps.length >= 7, steps.join(" "));
    for (const tag of steps) {
      const directory = data(`killed-${tag}`);
      await writeFile(plan, `${tag} 1 kill\n`);
      await assert.rejects(run(directory));
      await writeFile(plan, "");
      if (tag !== "restore.commit:after") {
        if (tag === steps.at(-2))
          await assert.rejects(TestServer.start({ dataDirectory: directory, settings }), /was cut off/);
        await run(directory);
      }
      await readFile(join(directory, "database/caisson.db"));
      await assert.rejects(readFile(join(directory, "restore.json")), { code: "ENOENT" });
    }
    await assert.rejects(run(data("traced")), /it is not empty/);
  });

  test("the machine is lost, and what was replicated is back on another one: names, tokens, bytes", async () => {
    await rm(data("first"), { recursive: true });
    const { stderr } = await restoreTo(data("second"));
    assert.match(stderr, /volume data of default: comes back as of .*, from snapshot data-1/);
    assert.match(stderr, /volume only-here of default: LOST/);
    await startOn(data("second"));
    assert.equal(await checksum("data"), sum);
    const later = client.with({ volumes: { "/v": "data" } }, (sandbox) => shell(sandbox, "ls /v"));
    assert.doesNotMatch(await later, /later/);
    await client.createVolume("clone", { from: "data-1" });
    assert.equal(await checksum("clone"), sum);
    const [code] = await client.refused("GET", "/api/v2/volumes/only-here");
    assert.equal(code, "404 VOLUME_NOT_FOUND");
    const headers = { authorization: `Bearer ${tenantToken}` };
    assert.equal((await server.request("/api/v2/volumes", { headers })).status, 200);
    const volume = await client.extended<{ last_error: { message: string } }>("GET", "/api/v2/volumes/data");
    assert.match(volume.last_error.message, /from snapshot data-1: what was written later is lost/);
    await eventually(
      "nothing is left to be brought back",
      async () => ((await readdir(data("second"))).includes("restored.json") ? null : true),
      TIMEOUT_MS,
    );
    await client.snapshot("data", "data-2");
    await caissonAs(server, "snapshots", "replicate", "data-2");
    await client.rest("POST", "/api/v1/backups", {});
  });
});

async function caissonAs(server: TestServer, ...args: readonly string[]) {
  const env = { ...process.env, CAISSON_TOKEN: server.token, CAISSON_ENDPOINT: server.endpoint };
  return promisify(execFile)(process.execPath, [CLI, ...args], { env });
}
