import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, suite, test } from "node:test";
import { PostgresServer } from "@caisson/database/testing";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Sandbox } from "@deno/sandbox";
import { TestClient } from "../support/client.ts";
import { eventually } from "../support/eventually.ts";
import { FaultPlan } from "../support/fault-plan.ts";
import { TestServer } from "../support/server.ts";

const MAIN = join(import.meta.dirname, "../../packages/server/src/main.ts");

/** Runs a command of the server's program, as `caisson database` and `caisson doctor` do. */
function runMain(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [MAIN, ...args],
      { env: { ...process.env, ...env } },
      (_error, stdout, stderr) => resolve({ code: child.exitCode, stdout, stderr }),
    );
  });
}

suite("a server on PostgreSQL", { timeout: testTimeoutMs(900_000) }, () => {
  let postgres: PostgresServer;
  before(async () => {
    postgres = await PostgresServer.start();
  });
  after(() => postgres[Symbol.asyncDispose]());

  const settingOf = (url: string): string => `database = ${JSON.stringify(url)}\n`;

  test("an outage of the database ends no sandbox: it is told with 503 and when to try again, and over when the database is back", async () => {
    await using server = await TestServer.start({ settings: settingOf(await postgres.createDatabase()) });
    Object.assign(process.env, server.clientEnv());
    const client = new TestClient(server);
    await client.createVolume("kept");
    await using sandbox = await Sandbox.create({ volumes: { "/v": "kept" } });
    const short = await Sandbox.create({ timeout: "3s" });
    const shortId = short.id;
    await short.close();
    await postgres.stop();
    const refusal = await server.request("/api/v2/volumes", {
      method: "POST",
      json: { slug: "new", region: "ord", capacity: "300MB" },
    });
    assert.equal(refusal.status, 503);
    assert.equal(refusal.headers.get("retry-after"), "5");
    assert.match(JSON.stringify(await refusal.json()), /DATABASE_UNAVAILABLE.*See that PostgreSQL runs there/);
    assert.equal((await client.createRefused({}))[0], "503 DATABASE_UNAVAILABLE");
    const count = (text: RegExp): number => server.logText().match(text)?.length ?? 0;
    await eventually("a renewal of the lease that fails", () => count(/cannot renew the lease/g) === 1 || null, 60_000);
    await sandbox.fs.writeTextFile("/v/during", "the outage");
    await postgres.start();
    assert.equal((await client.createVolume("new")).slug, "new");
    assert.equal(await sandbox.fs.readTextFile("/v/during"), "the outage");
    await eventually("a renewal after the outage", () => count(/is renewed again/g) === 1 || null, 60_000);
    assert.equal(count(/cannot renew the lease/g), 1);
    // Its time was over during the outage.
    await eventually("the sandbox whose time was over has ended", async () => {
      const list = await client.rest<readonly { id: string; status: string }[]>("GET", "/api/v2/sandboxes");
      return list.find(({ id }) => id === shortId)?.status === "running" ? null : true;
    });
    assert.ok(server.isRunning);
  });

  test("a second server is refused on the same database, whatever data directory it has", async () => {
    const settings = settingOf(await postgres.createDatabase());
    await using server = await TestServer.start({ settings });
    await assert.rejects(TestServer.start({ settings }), /Another server uses the database .*data in/);
    await server.stop();
    await assert.rejects(TestServer.start({ settings }), /belongs to the data directory/);
    await server.start();
    await writeFile(join(server.dataDirectory, "caisson.toml"), "");
    await server.stop();
    await assert.rejects(server.start(), /rows of .* are in a PostgreSQL database, and the settings name none/);
    await writeFile(join(server.dataDirectory, "caisson.toml"), settings);
  });

  test("an installation moves from SQLite by one command, which a kill at any of its steps does not harm", async () => {
    const plans = await mkdtemp(join(tmpdir(), "caisson-plan-"));
    const plan = new FaultPlan(plans);
    await plan.reset();
    await using server = await TestServer.start();
    Object.assign(process.env, server.clientEnv());
    const client = new TestClient(server);
    await client.createVolume("moved");
    await client.with({ volumes: { "/v": "moved" } }, (sandbox) => sandbox.fs.writeTextFile("/v/file", "from SQLite"));
    const url = await postgres.createDatabase();
    const settings = settingOf(url);
    const [node] = await client.rest<{ id: string }[]>("GET", "/api/v1/nodes");
    const copy = () => runMain(["database", "copy", "--data", server.dataDirectory], plan.env);
    assert.match((await copy()).stderr, /name no PostgreSQL database: set "database"/);
    await writeFile(join(server.dataDirectory, "caisson.toml"), settings);
    assert.match((await copy()).stderr, /Another server uses the data directory/);
    await server.stop();
    await assert.rejects(server.start(), /run `caisson database copy` first/);

    for (const tag of ["database-copy.commit", "installation.commit:before"]) {
      await plan.at([{ tag, occurrence: 1 }], "kill");
      assert.equal((await copy()).code, null, tag);
      await plan.reset();
      await assert.rejects(server.start(), /run `caisson database copy` first/, tag);
    }
    const { stdout, stderr } = await copy();
    assert.match(stdout, /"wasCopied":true/, stderr);
    const database = join(server.dataDirectory, "database");
    const setVersion = (sql: string): void => {
      using sqlite = new DatabaseSync(join(database, "caisson.db"));
      sqlite.exec(`PRAGMA user_version = ${sql}`);
    };
    const assertRetired = () => {
      using sqlite = new DatabaseSync(join(database, "caisson.db"), { readOnly: true });
      const version = Number(sqlite.prepare("PRAGMA user_version").get()?.user_version);
      assert.ok(version > 1_000_000, `${version}`);
      return version - 1_000_000;
    };
    // Where a kill comes before the file is marked, another run or a start does it.
    setVersion(`${assertRetired()}`);
    assert.match((await copy()).stderr, /in PostgreSQL already/);
    setVersion(`${assertRetired()}`);
    assert.match(await readFile(join(server.dataDirectory, "database/installation.json"), "utf8"), /postgresql/);
    await server.start();
    Object.assign(process.env, server.clientEnv());
    const text = await client.with({ volumes: { "/v": "moved" } }, (sandbox) => sandbox.fs.readTextFile("/v/file"));
    assert.equal(text, "from SQLite");
    const nodes = await client.rest<{ id: string; generation: number }[]>("GET", "/api/v1/nodes");
    assert.deepEqual(
      nodes.map(({ id, generation }) => [id, generation]),
      [[node?.id, 2]],
    );
    assert.doesNotMatch(server.logText(), /the database does not know|missing from the pool/);

    // Without the setting, and without the file that says where the rows are, SQLite is not taken for the truth, unless somebody wants that.
    const sqliteVersion = assertRetired();
    await server.stop();
    await writeFile(join(server.dataDirectory, "caisson.toml"), "");
    await rm(join(database, "installation.json"));
    await assert.rejects(server.start(), /were copied to PostgreSQL and have changed there since: set "database"/);
    setVersion(`${sqliteVersion}`);
    await server.start();
    assert.equal((await server.request("/api/v2/volumes/moved")).status, 200);
    await rm(plans, { recursive: true });
  });

  test("doctor says what the database is, what makes it unsafe, and why it cannot be used", async () => {
    const directory = await mkdtemp(join(tmpdir(), "caisson-doctor-"));
    const check = async (settings: string) => {
      await writeFile(join(directory, "caisson.toml"), settings);
      const { stdout } = await runMain(["doctor", "--data", directory]);
      const checks = JSON.parse(stdout) as readonly { name: string; status: string; found: string; remedy: string }[];
      const { status, found, remedy } = checks.find(({ name }) => name === "database") ?? {};
      return `${status}: ${found}. ${remedy}`;
    };
    assert.match(await check(""), /^ok: SQLite/);
    const url = await postgres.createDatabase();
    assert.match(
      await check(settingOf(url)),
      /^warning: PostgreSQL \d+.* with fsync off\. A power cut can take .*postgresql\.conf/,
    );
    assert.match(
      await check(settingOf(postgres.url("absent"))),
      /^missing: Cannot use the database: .*is not there .*createdb/,
    );
    const migrated = await runMain(["database", "migrate", "--data", directory]);
    assert.match(migrated.stderr, /is not there/);
    await writeFile(join(directory, "caisson.toml"), settingOf(url));
    const migrations = await readdir(join(import.meta.dirname, "../../packages/database/src/postgres/migrations"));
    const { stdout } = await runMain(["database", "migrate", "--data", directory]);
    assert.deepEqual(JSON.parse(stdout), { command: "migrate", schemaVersion: migrations.length });
    await rm(directory, { recursive: true });
  });
});
