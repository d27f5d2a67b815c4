import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import { testTimeoutMs } from "@caisson/linux/testing";
import { SeaweedServer } from "@caisson/objects/testing";
import { shell, TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { TestServer } from "./support/server.ts";

const CLI = join(import.meta.dirname, "../packages/cli/src/main.ts");
const TIMEOUT_MS = testTimeoutMs(60_000);

suite("a machine is lost whose backups and schedule went to S3", { timeout: testTimeoutMs(900_000) }, () => {
  const resources = new AsyncDisposableStack();
  let parent: string;
  let service: SeaweedServer;
  let settings: string;
  let server: TestServer | null = null;
  let client: TestClient;
  const data = (name: string) => join(parent, name);
  const caisson = (...args: readonly string[]) =>
    promisify(execFile)(process.execPath, [CLI, ...args], { env: { ...process.env, ...service.env } });
  const from = () => ["--from", `s3://${service.bucket}/far`, "--endpoint", service.endpoint, "--key", data("key")];
  const startOn = async (dataDirectory: string) => {
    const started = await TestServer.start({ dataDirectory, settings, env: service.env });
    server = started;
    client = new TestClient(started);
    Object.assign(process.env, started.clientEnv());
  };

  before(async () => {
    parent = await mkdtemp(join(tmpdir(), "caisson-lost-s3-"));
    await chmod(parent, 0o755);
    service = resources.use(await SeaweedServer.start());
    settings = `[snapshot_store]\nurl = "s3://${service.bucket}/far"\nendpoint = "${service.endpoint}"\nreplication = "none"\nbackup_every = "off"\n`;
    await mkdir(data("first"));
    await startOn(data("first"));
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await resources.disposeAsync();
    await rm(parent, { recursive: true });
  });

  test("the volume is back as of its schedule's last snapshot, with its schedule, and a drill has said so before", async () => {
    await client.createVolume("data");
    const sum = await client.with({ volumes: { "/v": "data" } }, (sandbox) =>
      shell(sandbox, "head -c 20M /dev/urandom > /v/noise; sync; sha256sum < /v/noise"),
    );
    await client.rest("POST", "/api/v2/volumes/data/schedule", { every: "12h" });
    const replicatedAt = await eventually(
      "the state of the volume in the store",
      async () =>
        (await client.extended<{ replicated_at: string | null }>("GET", "/api/v2/volumes/data")).replicated_at,
      TIMEOUT_MS,
    );
    await client.with({ volumes: { "/v": "data" } }, (sandbox) => shell(sandbox, "echo later > /v/later; sync"));
    await client.rest("POST", "/api/v1/backups", {});
    await writeFile(data("key"), (await caisson("keys", "export", "--data", data("first"))).stdout);
    const drill = await caisson("drill", ...from(), "--sample", "all");
    assert.match(drill.stdout, /SNAPSHOTS +1 of 1 fetched and compared/);
    await server?.kill();
    await rm(data("first"), { recursive: true });

    const { stderr } = await caisson("restore", ...from(), "--data", data("second"));
    assert.match(stderr, /volume data of default: comes back as of .*, from snapshot auto-/);
    await startOn(data("second"));
    const found = await client.with({ volumes: { "/v": "data" } }, (sandbox) =>
      shell(sandbox, "sha256sum < /v/noise; ls /v"),
    );
    assert.ok(found.startsWith(sum) && !found.includes("later"), found);
    const volume = await client.extended<{ schedule: { every: string } | null; replicated_at: string | null }>(
      "GET",
      "/api/v2/volumes/data",
    );
    assert.deepEqual([volume.schedule?.every, volume.replicated_at], ["12h", replicatedAt]);
  });
});
