import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import { TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { TestServer } from "./support/server.ts";

const CLI = join(import.meta.dirname, "../packages/cli/src/main.ts");
const TIMEOUT_MS = 60_000;

interface Overview {
  readonly problem: string | null;
  readonly error: string | null;
  readonly backups: readonly { readonly id: string; readonly automatic: boolean }[];
}

suite("backups", { timeout: 900_000 }, () => {
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
    assert.equal((await overview()).error, null);
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
