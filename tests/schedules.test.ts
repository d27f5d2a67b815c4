import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Sandbox } from "@deno/sandbox";
import { shell, TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { TestServer } from "./support/server.ts";

const CLI = join(import.meta.dirname, "../packages/cli/src/main.ts");
const TIMEOUT_MS = testTimeoutMs(60_000);

interface Volume {
  readonly id: string;
  readonly slug: string;
  readonly schedule: {
    readonly every: string;
    readonly next_at: string;
    readonly error: string | null;
    readonly replicates: boolean;
  } | null;
  readonly replicated_at: string | null;
}

interface Snapshot {
  readonly id: string;
  readonly slug: string;
  readonly automatic: boolean;
  readonly consistency: string;
  readonly created_at: string;
  readonly replication: { readonly state: string; readonly retry_at: string | null };
}

suite("schedules of volumes", { timeout: testTimeoutMs(900_000) }, () => {
  let parent: string;
  let directory: string;
  let server: TestServer;
  let client: TestClient;

  before(async () => {
    parent = await mkdtemp(join(tmpdir(), "caisson-schedules-"));
    directory = join(parent, "store");
    await mkdir(directory);
    server = await TestServer.start();
    await restart(settings());
    client = new TestClient(server);
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await rm(parent, { recursive: true });
  });
  const settings = () =>
    `[volumes]\nmin_every = "1s"\n[snapshot_store]\nurl = "file://${directory}"\nreplication = "none"\nbackup_every = "off"\n`;
  const restart = async (text: string): Promise<void> => {
    await server.stop();
    await server.writeSettings(text);
    await server.start();
  };
  const get = (slug: string) => client.extended<Volume>("GET", `/api/v2/volumes/${slug}`);
  const schedule = (slug: string, every: string | null) =>
    client.extended<Volume>("POST", `/api/v2/volumes/${slug}/schedule`, { every });
  /** Those of the volume's schedule, the newest first. */
  const automatic = async (volume: Pick<Volume, "id">): Promise<readonly Snapshot[]> => {
    const all = await client.extended<(Snapshot & { volume: { id: string } })[]>("GET", "/api/v2/snapshots?limit=100");
    return all.filter((one) => one.automatic && one.volume.id === volume.id);
  };
  /** Until the store has a state of the volume that is later than this one. */
  const untilReplicated = (slug: string, afterAt: string | null) =>
    eventually(
      `a state of ${slug} after ${afterAt} in the store`,
      async () => {
        const { replicated_at: at } = await get(slug);
        return at !== null && at > (afterAt ?? "") ? at : null;
      },
      TIMEOUT_MS,
    );
  const caisson = async (...args: readonly string[]) => {
    const env = { ...process.env, CAISSON_TOKEN: server.token, CAISSON_ENDPOINT: server.endpoint };
    return promisify(execFile)(process.execPath, [CLI, ...args], { env });
  };

  test("a volume that is written to is snapshotted and replicated again and again, also after a restart, until it is told not to be", async () => {
    const volume = await client.extended<Volume>("POST", "/api/v2/volumes", {
      ...{ slug: "live", region: "ord", capacity: "300MB", every: "1s" },
    });
    assert.deepEqual([volume.schedule?.every, volume.schedule?.replicates], ["1s", true]);
    assert.deepEqual([volume.schedule?.error, volume.replicated_at], [null, null]);
    Object.assign(process.env, server.clientEnv());
    await using sandbox = await Sandbox.create({ volumes: { "/v": "live" } });
    await shell(sandbox, "echo 'what is to survive' > /v/file; sync");
    const writtenAt = new Date().toISOString();
    const first = await untilReplicated("live", writtenAt);
    const second = await untilReplicated("live", first);
    const made = await automatic(volume);
    assert.ok(made.length >= 2 && made.some(({ consistency }) => consistency === "frozen"));
    assert.match((await caisson("volumes", "list")).stdout, /REPLICATED\n.*live.* ago\n/s);
    await sandbox.kill();
    await restart(settings());
    const third = await untilReplicated("live", second);
    const slug = (await automatic(volume)).find(({ created_at }) => created_at === third)?.slug;
    assert.ok(slug?.startsWith("auto-"), slug);
    assert.equal((await schedule("live", null)).schedule, null);
    const count = (await automatic(volume)).length;
    await client.createVolume("copy", { from: slug });
    Object.assign(process.env, server.clientEnv());
    await client.with({ volumes: { "/v": "copy" } }, async (reader) =>
      assert.equal(await shell(reader, "cat /v/file"), "what is to survive"),
    );
    assert.ok((await automatic(volume)).length <= count + 1, "one may have been under way");
    assert.equal((await get("live")).schedule, null);
  });

  test("an automatic snapshot that is labelled is automatic no more, and the policy asks for none", async () => {
    await client.createVolume("quiet");
    await schedule("quiet", "1h");
    await untilReplicated("quiet", null);
    const volume = await get("quiet");
    const [snapshot, ...others] = await automatic(volume);
    assert.ok(snapshot !== undefined && others.length === 0);
    assert.ok(Date.parse(volume.schedule?.next_at ?? "") === Date.parse(snapshot.created_at) + 3_600_000);
    await client.rest("PATCH", `/api/v2/snapshots/${snapshot.slug}`, { labels: { keep: "yes" } });
    assert.deepEqual(await automatic(volume), []);
  });

  test("while the store is away snapshots are made, one of them waits, and that is told; afterwards the newest goes there", async () => {
    await client.createVolume("waits");
    const volume = await schedule("waits", "1s");
    const before = await untilReplicated("waits", null);
    const away = join(parent, "away");
    await rename(directory, away);
    const failing = await eventually(
      "three snapshots, of which the newest has failed",
      async () => {
        const made = (await automatic(volume)).filter(({ created_at }) => created_at > before);
        return made.length >= 3 && made[0]?.replication.state === "failed" ? made : null;
      },
      TIMEOUT_MS,
    );
    assert.deepEqual(
      failing.slice(1).filter(({ replication }) => replication.state === "uploading" || replication.state === "failed"),
      [],
      "the others have given it their turn",
    );
    const store = () =>
      client.rest<{ problem: string | null; waiting: number; failing: number; last_error: string | null }>(
        "GET",
        "/api/v1/snapshot-store",
      );
    const { problem, failing: count, last_error: reason } = await store();
    assert.ok(count >= 1 && /is not there/.test(problem ?? "") && reason !== null);
    assert.match((await caisson("df")).stderr, /the snapshot store cannot be used: .* is not there/);
    const metrics = await (await server.request("/metrics")).text();
    assert.match(metrics, /^caisson_replication_waiting\{state="failing"\} [1-9]/m);
    assert.match(metrics, /^caisson_replication_last_success_timestamp_seconds \d/m);
    await schedule("waits", null);
    await rename(away, directory);
    await untilReplicated("waits", failing[0]?.created_at ?? null);
    await eventually(
      "an end of all uploads",
      async () => {
        const now = await store();
        return now.waiting === 0 && now.problem === null && now.last_error === null ? true : null;
      },
      TIMEOUT_MS,
    );
  });

  test("periods outside the limits, of others' volumes and of snapshots are refused with what to do", async () => {
    await client.createVolume("limits");
    const path = "/api/v2/volumes/limits/schedule";
    for (const every of ["", "5", "0m", "-5m", "1.5m", "5 m", "5w", "31d", "999999999d", "0s", "x".repeat(10_000)]) {
      const [code, message] = await client.refused("POST", path, { every });
      assert.equal(code, "400 INVALID_REQUEST", every.slice(0, 20));
      assert.match(message, /from 1s to 30d, for example "5m"/);
    }
    for (const body of [{}, { every: 5 }, { every: ["5m"] }])
      assert.equal((await client.refused("POST", path, body))[0].split(" ")[0], "400");
    assert.equal(
      (await client.refused("POST", "/api/v2/volumes/nothing/schedule", { every: "5m" }))[0],
      "404 VOLUME_NOT_FOUND",
    );
    const create = { slug: "refused", region: "ord", capacity: "300MB", every: "31d" };
    assert.equal((await client.refused("POST", "/api/v2/volumes", create))[0], "400 INVALID_REQUEST");
    await client.rest("POST", "/api/v1/organizations", { slug: "tenant" });
    const { token } = await client.rest<{ token: string }>("POST", "/api/v1/tokens", {
      name: "t",
      organization: "tenant",
    });
    const headers = { authorization: `Bearer ${token}` };
    assert.equal((await client.refused("POST", path, { every: "5m" }, headers))[0], "404 VOLUME_NOT_FOUND");
  });

  test("without a snapshot store they are in the pool alone, which is said", async () => {
    await restart("");
    await client.createVolume("alone");
    const tooOften = await client.refused("POST", "/api/v2/volumes/alone/schedule", { every: "59s" });
    assert.match(tooOften[1], /from 1m to 30d/);
    assert.match(
      (await caisson("volumes", "schedule", "alone", "--every", "1h")).stdout,
      /every 1h, in the pool alone, because the server has no snapshot store/,
    );
    const volume = await get("alone");
    const [snapshot] = await eventually(
      "a snapshot",
      async () => {
        const made = await automatic(volume);
        return made.length > 0 ? made : null;
      },
      TIMEOUT_MS,
    );
    assert.equal(snapshot?.replication.state, "local");
    const metrics = async () => (await server.request("/metrics")).text();
    await eventually(
      "the schedule in the metrics",
      async () => (/^caisson_schedules\{state="all"\} [1-9]/m.test(await metrics()) ? true : null),
      TIMEOUT_MS,
    );
    assert.doesNotMatch(await metrics(), /^caisson_schedules_replicated_age_seconds/m);
    assert.match((await caisson("volumes", "schedule", "alone", "--every", "off")).stdout, /no schedule/);
    await restart(settings());
    await eventually(
      "the age of the last replicated state in the metrics",
      async () => (/^caisson_schedules_replicated_age_seconds \d/m.test(await metrics()) ? true : null),
      TIMEOUT_MS,
    );
  });
});
