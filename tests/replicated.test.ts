import assert from "node:assert/strict";
import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { TestDisk } from "@caisson/storage/testing";
import { shell, TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { checkReplicatedVolumes, type Pool, type Shown } from "./support/replicated-volumes.ts";
import { TestServer } from "./support/server.ts";

interface World {
  readonly server: TestServer;
  readonly client: TestClient;
  /** Of the replicated pool; without it the disk counts as not mounted. */
  readonly mark: string;
  restart(): Promise<void>;
  show(kind: "volumes" | "snapshots", slug: string): Promise<Shown>;
}

/** A server whose replicated pool lies on a disk of its own. */
async function withWorld(run: (world: World) => Promise<void>): Promise<void> {
  const disk = await TestDisk.create("ext4", 6 * 2 ** 30);
  try {
    const mark = join(disk.mountPath, "caisson-replicated");
    await writeFile(mark, "");
    const settings = `[replicated]\ndirectory = "${disk.mountPath}"\nsize = "4GiB"\n`;
    await using server = await TestServer.start({ settings });
    const client = new TestClient(server);
    Object.assign(process.env, server.clientEnv());
    await run({
      server,
      client,
      mark,
      async restart() {
        await server.start();
        Object.assign(process.env, server.clientEnv());
      },
      show: (kind, slug) => client.extended<Shown>("GET", `/api/v2/${kind}/${slug}`),
    });
  } finally {
    await disk.dispose();
  }
}

suite("replicated volumes", { timeout: testTimeoutMs(900_000) }, () => {
  test("they are made, used, copied to the other class and back, told of and purged, and lie on the replicated disk alone", async () => {
    await withWorld(async ({ client }) => {
      await checkReplicatedVolumes(client, { isSpaceFreeSoon: true });
    });
  });

  test("they outlive the pool of their machine, and wait for their disk, while local ones go on", async () => {
    await withWorld(async ({ server, client, mark, restart, show }) => {
      await client.createVolume("far", { storage_class: "replicated" });
      await client.createVolume("near");
      await client.with({ volumes: { "/f": "far", "/n": "near" } }, (sandbox) =>
        shell(sandbox, "echo far > /f/file && echo near > /n/file && sync"),
      );

      await server.stop();
      await rename(mark, `${mark}-gone`);
      await restart();
      assert.match(
        (await show("volumes", "far")).unavailable ?? "",
        /is missing, so that its disk is perhaps not mounted/,
      );
      assert.equal((await show("volumes", "near")).unavailable, null);
      assert.equal((await client.createRefused({ volumes: { "/f": "far" } }))[0], "503 DISK_UNAVAILABLE");
      const refused = await client.refused("POST", "/api/v2/volumes", {
        ...{ slug: "more", region: "ord", capacity: "300MB", storage_class: "replicated" },
      });
      assert.equal(refused[0], "503 DISK_UNAVAILABLE");
      assert.doesNotMatch(server.logText(), /undo volume-create/, "nothing was begun that has to be undone");
      const near = await client.with({ volumes: { "/n": "near" } }, (sandbox) => sandbox.fs.readTextFile("/n/file"));
      assert.equal(near, "near\n");
      const [, missing] = (await client.rest<Pool[]>("GET", "/api/v1/pools"))[0]?.disks ?? [];
      assert.match(missing?.problem ?? "", /caisson-replicated is missing/);
      await rename(`${mark}-gone`, mark);
      const back = async () => ((await show("volumes", "far")).unavailable === null ? true : null);
      await eventually("the replicated pool is opened again", back, 60_000);

      // What is lost with a disk of the machine: all of the local pool. The rows are elsewhere, as in PostgreSQL.
      await server.stop();
      await rm(join(server.dataDirectory, "regions"), { recursive: true });
      await restart();
      const far = await client.with({ volumes: { "/f": "far" } }, (sandbox) => sandbox.fs.readTextFile("/f/file"));
      assert.equal(far, "far\n");
      assert.match(server.logText(), /the image of a volume or snapshot is missing from the pool/);
    });
  });

  test("without a replicated pool they are refused before anything is made, and a default class that cannot be is told of", async () => {
    await using server = await TestServer.start({ settings: '[volumes]\ndefault_class = "replicated"\n' });
    const client = new TestClient(server);
    const body = { slug: "far", region: "ord", capacity: "300MB" };
    const wanted = /has no replicated pool: create the volume with the class "local", or .*"\[replicated\]"/;
    for (const more of [
      {},
      { storage_class: "replicated" },
      { storage_class: "replicated", from: "builtin:debian-13" },
    ]) {
      const [status, message] = await client.refused("POST", "/api/v2/volumes", { ...body, ...more });
      assert.equal(status, "400 INVALID_REQUEST");
      assert.match(message, wanted);
    }
    assert.equal(
      (await client.refused("POST", "/api/v2/volumes", { ...body, storage_class: "far" }))[0].slice(0, 3),
      "400",
    );
    await client.createVolume("far", { storage_class: "local" });
  });
});
