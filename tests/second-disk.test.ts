import assert from "node:assert/strict";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { TestDisk } from "@caisson/storage/testing";
import { TestClient } from "./support/client.ts";
import { TestServer } from "./support/server.ts";

interface Pool {
  readonly total: number;
  readonly disks: readonly { directory: string; problem: string | null; total: number; used: number }[];
}

interface Shown {
  readonly slug: string;
  readonly unavailable: string | null;
}

suite("a pool on two disks", { timeout: testTimeoutMs(600_000) }, () => {
  test("what lies on the second one works, is told of as unavailable while that is missing, and is back with it", async () => {
    const disk = await TestDisk.create("ext4", 6 * 2 ** 30);
    try {
      const settings = `[pool]\nsize = "1500MiB"\n[[pool.disks]]\ndirectory = "${disk.mountPath}"\nsize = "3GiB"\n`;
      await using server = await TestServer.start({ settings, hasPoolFile: true });
      const client = new TestClient(server);
      const start = async (): Promise<void> => {
        await server.start();
        Object.assign(process.env, server.clientEnv());
      };
      const readPool = async (): Promise<Pool> => {
        const [pool] = await client.rest<Pool[]>("GET", "/api/v1/pools");
        assert.ok(pool);
        return pool;
      };
      const show = (kind: "volumes" | "snapshots", slug: string) =>
        client.extended<Shown>("GET", `/api/v2/${kind}/${slug}`);
      Object.assign(process.env, server.clientEnv());

      await client.createVolume("far");
      await client.with({ volumes: { "/v": "far" } }, (sandbox) => sandbox.fs.writeTextFile("/v/file", "far away"));
      await client.rest("POST", "/api/v2/volumes/far/snapshot", { slug: "far-1" });
      assert.equal((await show("volumes", "far")).unavailable, null);
      const both = await readPool();
      assert.deepEqual(
        both.disks.map(({ directory, problem }) => [directory, problem]),
        [
          [join(server.dataDirectory, "regions/ord/pool"), null],
          [join(disk.mountPath, "ord"), null],
        ],
      );
      assert.equal(
        both.total,
        both.disks.reduce((sum, { total }) => sum + total, 0),
      );

      const settingsPath = join(server.dataDirectory, "caisson.toml");
      await writeFile(settingsPath, (await readFile(settingsPath, "utf8")).replace('"3GiB"', '"4GiB"'));
      await client.rest("POST", "/api/v1/pools/grow", {});
      const events = await client.rest<{ verb: string; detail: { directory?: string } }[]>(
        "GET",
        "/api/v1/events?object=ord",
      );
      assert.deepEqual(
        events.filter(({ verb }) => verb === "pool-grow").map(({ detail }) => detail.directory),
        [join(disk.mountPath, "ord"), undefined],
        "the disks go by the names that they have everywhere",
      );

      await server.stop();
      await disk.unmount();
      await start();
      assert.match(server.logText(), /its disk is not mounted there/);
      assert.match(server.logText(), /a volume or snapshot cannot be used/);
      for (const [kind, slug] of [
        ["volumes", "far"],
        ["snapshots", "far-1"],
      ] as const)
        assert.match((await show(kind, slug)).unavailable ?? "", /not mounted there.*Mount it, then start the server/);
      assert.equal((await client.createRefused({ volumes: { "/v": "far" } }))[0], "503 DISK_UNAVAILABLE");
      const clone = { slug: "clone", region: "ord", capacity: "1GB", from: "far-1" };
      assert.equal((await client.refused("POST", "/api/v2/volumes", clone))[0], "503 DISK_UNAVAILABLE");
      const [, missing] = (await readPool()).disks;
      assert.match(missing?.problem ?? "", /not mounted there/);
      assert.deepEqual(await readdir(disk.mountPath), []);
      await client.createVolume("near");
      await client.with({ volumes: { "/v": "near" } }, (sandbox) => sandbox.fs.writeTextFile("/v/file", "near"));

      await server.stop();
      await disk.mount();
      await start();
      const text = await client.with({ volumes: { "/f": "far", "/n": "near" } }, async (sandbox) =>
        [await sandbox.fs.readTextFile("/f/file"), await sandbox.fs.readTextFile("/n/file")].join(),
      );
      assert.equal(text, "far away,near");
      assert.equal((await show("snapshots", "far-1")).unavailable, null);
      await client.rest("POST", "/api/v2/volumes", clone);
    } finally {
      await disk.dispose();
    }
  });
});
