import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { runTool } from "@caisson/linux";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Sandbox } from "@deno/sandbox";
import { shell, TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { TestServer } from "./support/server.ts";

interface Pool {
  readonly total: number;
  readonly used: number;
  readonly headroom: number;
  readonly available: number;
  readonly volumes: number;
  readonly deleted: number;
  readonly [part: string]: unknown;
}

/** For what takes a second or two on a machine that does nothing else. */
const LATE_MS = 120_000;
const PARTS = ["volumes", "snapshots", "deleted", "built_in", "scratch", "shared"];
/** Writes without a sync until it must not any more, also not a little later, and says what the writer was told. */
const FILL = "for i in 1 2 3 4 5; do yes | head -c 5G >> /v/fill; sleep 0.2; done; stat -c %s /v/fill";
const settings = (size: string, floorHours: number): string =>
  `[pool]\nsize = "${size}"\n[volumes]\nretention_floor_hours = ${floorHours}\nusage_interval_seconds = 1\n`;

suite("a full pool", { timeout: testTimeoutMs(800_000) }, () => {
  let server: TestServer;
  let client: TestClient;
  before(async () => {
    server = await TestServer.start({ settings: settings("1200MiB", 1), hasPoolFile: true });
    await begin();
  });
  after(() => server?.[Symbol.asyncDispose]());

  const begin = async () => {
    Object.assign(process.env, server.clientEnv());
    client = new TestClient(server);
  };
  const restart = async (text: string) => {
    await server.stop();
    await writeFile(join(server.dataDirectory, "caisson.toml"), text);
    await server.start();
    await begin();
  };
  const readPool = async (): Promise<Pool> => {
    const [pool] = await client.rest<Pool[]>("GET", "/api/v1/pools");
    assert.ok(pool !== undefined);
    return pool;
  };
  /** Waits until the sandbox is stopped, which a kill does for 8 seconds only, and returns what it lost. */
  const damagesOf = (id: string): Promise<readonly string[]> =>
    eventually(
      "the end of the sandbox",
      async () => {
        const path = `/api/v3/sandbox/${id}`;
        const { status, damages } = await client.rest<{ status: string; damages: string[] }>("GET", path);
        return status === "stopped" ? damages : null;
      },
      LATE_MS,
    );
  /**
   * Fills the pool through a volume, and returns how many bytes it took. On a loaded machine a writer may be told too early that there is no
   * room, so others go on until there is none.
   */
  const fill = async (slug: string): Promise<number> => {
    await client.createVolume(slug, { capacity: "10GB" });
    return eventually(
      "the full pool",
      async () => {
        const [id, bytes] = await client.with({ volumes: { "/v": slug } }, async (sandbox) => {
          const child = await sandbox.spawn("bash", { args: ["-c", FILL], stdout: "piped", stderr: "piped" });
          const { stdoutText, stderrText } = await child.output();
          assert.match(stderrText ?? "", /No space left on device/);
          return [sandbox.id, Number(stdoutText?.trim().split("\n").at(-1))] as const;
        });
        assert.deepEqual(await damagesOf(id), []);
        // With less than 32 MiB no image is made.
        return (await readPool()).available < 30e6 ? bytes : null;
      },
      LATE_MS,
    );
  };
  const create = (slug: string) =>
    client.refused("POST", "/api/v2/volumes", { slug, region: "ord", capacity: "300MB" });

  test("tells the writer, loses nothing that it took, and lets sandboxes start and delete files", async () => {
    await client.createVolume("kept");
    await client.with({ volumes: { "/v": "kept" } }, (sandbox) =>
      shell(sandbox, "head -c 20M /dev/urandom > /v/data; sync; cd /v; sha256sum data > sum"),
    );
    const bytes = await fill("hog");
    assert.ok(bytes > 200e6, `${bytes} bytes`);
    const [code, message] = await create("more");
    assert.equal(code, "507 STORAGE_FULL");
    assert.match(message, /headroom.*caisson purge.*--now.*caisson df/);
    assert.deepEqual(await client.rest("GET", "/api/v2/volumes?search=more"), []);
    const id = await client.with({ volumes: { "/v": "hog", "/k": "kept" } }, async (sandbox) => {
      assert.equal(await shell(sandbox, "tr -d '\\ny' < /v/fill | wc -c; stat -c %s /v/fill"), `0\n${bytes}`);
      assert.match(await shell(sandbox, "cd /k; sha256sum -c sum"), /OK/);
      await shell(sandbox, "echo scratch > /tmp/file; rm /v/fill; sync");
      return sandbox.id;
    });
    assert.deepEqual(await damagesOf(id), []);
    await client.createVolume("more");
    await client.rest("DELETE", "/api/v2/volumes/more?now=true");
  });

  test("is shown by its parts, and its thresholds are in the administrators' trail", async () => {
    await fill("hog-2");
    const pool = await readPool();
    assert.ok(pool.available < 64e6 && Number(pool.used_percent) > 95, JSON.stringify(pool));
    const sum = PARTS.reduce((total, part) => total + Number(pool[part]), 0);
    assert.ok(Math.abs(sum - pool.used) < 64e6, JSON.stringify(pool));
    await eventually(
      "the event",
      async () => {
        const events = await client.rest<{ verb: string; detail: object }[]>("GET", "/api/v1/events?object=ord");
        return events.some(({ verb, detail }) => verb === "pool-threshold" && "threshold" in detail) ? true : null;
      },
      LATE_MS,
    );
  });

  test("has room again when what is deleted is purged, and not before, unless it was deleted with now", async () => {
    const { id } = await client.rest<{ id: string }>("GET", "/api/v2/volumes/hog-2");
    assert.match((await client.refused("POST", `/api/v2/volumes/${id}/purge`))[1], /it is not deleted/);
    await client.rest("DELETE", `/api/v2/volumes/${id}`);
    assert.equal((await create("more"))[0], "507 STORAGE_FULL", "the floor of an hour holds");
    const { deleted } = await readPool();
    assert.ok(deleted > 200e6, `${deleted}`);
    await client.rest("POST", `/api/v2/volumes/${id}/purge`);
    assert.equal((await client.refused("POST", `/api/v2/volumes/${id}/restore`, {}))[0], "404 VOLUME_NOT_FOUND");
    await client.createVolume("more");
    const [event] = await client.rest<{ verb: string; detail: object }[]>("GET", `/api/v1/events?object=${id}`);
    assert.deepEqual([event?.verb, event?.detail], ["volume-purge", { slug: "hog-2", reason: "asked" }]);

    await fill("hog-3");
    await client.rest("DELETE", "/api/v2/volumes/hog-3?now=true");
    assert.deepEqual(await client.rest("GET", "/api/v2/volumes?deleted=true&search=hog-3"), []);
    await client.createVolume("more-2");
  });

  test("purges what is deleted early, the oldest first, as far as the settings allow", async () => {
    await restart(settings("1200MiB", 0));
    for (const slug of ["old", "young"]) {
      const { id } = await client.createVolume(slug);
      await client.rest("DELETE", `/api/v2/volumes/${id}`);
    }
    const { id } = await client.rest<{ id: string }>("GET", "/api/v2/volumes/hog");
    await client.rest("DELETE", `/api/v2/volumes/${id}`);
    await fill("hog-4");
    await eventually(
      "the purge",
      async () => ((await client.rest<unknown[]>("GET", "/api/v2/volumes?deleted=true")).length === 0 ? true : null),
      LATE_MS,
    );
    const purged = (
      await client.rest<{ verb: string; detail: { slug?: string; reason?: string } }[]>("GET", "/api/v1/events")
    )
      .filter(({ verb, detail }) => verb === "volume-purge" && detail.reason === "pool-full")
      .map(({ detail }) => detail.slug);
    assert.deepEqual(purged.toReversed().slice(0, 2), ["old", "young"]);
  });

  test("that has no room for the built-in image lets the server start, and says why no sandbox does", async () => {
    await using small = await TestServer.start({ settings: settings("512MiB", 1), hasPoolFile: true });
    const other = new TestClient(small);
    assert.match(small.logText(), /cannot import the built-in image, because the pool is full/);
    await other.createVolume("blank");
    await other.rest("DELETE", "/api/v2/volumes/blank?now=true");
    Object.assign(process.env, small.clientEnv());
    const [code, message] = await other.createRefused({});
    assert.equal(code, "507 STORAGE_FULL");
    assert.match(message, /no room for the built-in image when the server started.*start the server again/);
    const bootable = { slug: "root", region: "ord", capacity: "1GB", from: "builtin:debian-13" };
    assert.equal((await other.refused("POST", "/api/v2/volumes", bootable))[0], "507 STORAGE_FULL");
    await begin();
  });

  test("grows while it runs, to the size that the settings name", async () => {
    const before = await readPool();
    await writeFile(join(server.dataDirectory, "caisson.toml"), settings("1600MiB", 0));
    const [grown] = await client.rest<Pool[]>("POST", "/api/v1/pools/grow", {});
    assert.ok(Number(grown?.total) > before.total + 380 * 2 ** 20, JSON.stringify(grown));
    await client.createVolume("after-growth");
    await writeFile(join(server.dataDirectory, "caisson.toml"), settings("1200MiB", 0));
    const [code, message] = await client.refused("POST", "/api/v1/pools/grow", {});
    assert.equal(code, "400 INVALID_CAPACITY");
    assert.match(message, /cannot shrink/);
    await restart(settings("1600MiB", 0));
    assert.equal((await readPool()).total, grown?.total);
  });

  test("whose headroom goes too makes writers stand still, and a sandbox that stands still can be ended", async () => {
    await client.createVolume("base");
    await client.with({ volumes: { "/v": "base" } }, (sandbox) =>
      shell(sandbox, "head -c 150M /dev/urandom > /v/data; sync"),
    );
    await client.snapshot("base", "base-v1");
    await fill("hog-5");
    const sandbox = await Sandbox.create({ volumes: { "/v": "base" } });
    const countHolds = async () => {
      const events = await client.rest<{ verb: string }[]>("GET", "/api/v1/events?object=ord");
      return events.filter(({ verb }) => verb === "pool-hold").length;
    };
    const earlierHolds = await countHolds();
    // What it overwrites is shared with the snapshot, so it needs space although the file does not grow. It writes so slowly that the guard sees
    // in time how the headroom goes, also on a loaded machine.
    const overwrite =
      "for i in {0..149}; do dd if=/dev/urandom of=/v/data bs=1M count=1 seek=$i conv=notrunc,fsync; sleep 0.02; done";
    await sandbox.spawn("bash", { args: ["-c", overwrite], stdout: "null", stderr: "null" });
    await eventually("the hold", async () => ((await countHolds()) > earlierHolds ? true : null), LATE_MS);
    const { status } = await server.request(`/api/v3/sandbox/${sandbox.id}`, { method: "DELETE" });
    // 409: something was lost, which is told. 202: the end takes longer than a request waits.
    assert.ok([202, 204, 409].includes(status), `${status}`);
    await damagesOf(sandbox.id);
    await client.rest("DELETE", "/api/v2/volumes/hog-5?now=true");
    await client.with({ volumes: { "/v": "base" } }, async (next) => {
      assert.equal(await shell(next, "stat -c %s /v/data"), String(150 * 2 ** 20));
    });
  });

  test("a copy of the data directory is a server beside the original, with the same data", async () => {
    await server.stop();
    const copy = await mkdtemp(join(tmpdir(), "caisson-copy-"));
    await runTool("cp", ["-a", "--sparse=always", `${server.dataDirectory}/.`, copy]);
    await server.start();
    await begin();
    const second = await TestServer.start({ dataDirectory: copy });
    try {
      const secondClient = new TestClient(second);
      for (const [one, to] of [
        [client, server],
        [secondClient, second],
      ] as const) {
        Object.assign(process.env, to.clientEnv());
        assert.match(
          await one.with({ volumes: { "/v": "kept" } }, (sandbox) => shell(sandbox, "cd /v; sha256sum -c sum")),
          /OK/,
        );
      }
    } finally {
      await second[Symbol.asyncDispose]();
      await rm(copy, { recursive: true, force: true });
    }
  });
});
