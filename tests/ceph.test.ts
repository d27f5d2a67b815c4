import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { TestCeph } from "@caisson/storage/testing";
import { Sandbox } from "@deno/sandbox";
import { TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { checkReplicatedVolumes, type Pool, type Shown } from "./support/replicated-volumes.ts";
import { TestServer } from "./support/server.ts";

/** A server whose replicated pool is in a Ceph cluster of the test's own. */
async function withCeph(
  run: (world: { readonly ceph: TestCeph; readonly server: TestServer; readonly client: TestClient }) => Promise<void>,
): Promise<void> {
  const ceph = await TestCeph.start({ store: "bluestore", sizeBytes: 8 * 2 ** 30 });
  try {
    const { conf, user, pool } = ceph;
    const settings = `[replicated]\nconf = "${conf}"\nuser = "${user}"\npool = "${pool}"\n`;
    await using server = await TestServer.start({ settings });
    Object.assign(process.env, server.clientEnv());
    await run({ ceph, server, client: new TestClient(server) });
  } finally {
    await ceph.stop();
  }
}

suite("replicated volumes on Ceph", { timeout: testTimeoutMs(900_000) }, () => {
  test("they are made, used, copied to the other class and back, told of and purged", async () => {
    await withCeph(async ({ client }) => {
      // A cluster gives the space of snapshots back at its own pace, minutes later on slow disks.
      await checkReplicatedVolumes(client, { isSpaceFreeSoon: false });
    });
  });

  test("what was acknowledged outlives the machine that wrote it, which is shut out, on one that takes its place", async () => {
    await withCeph(async ({ server, client }) => {
      await client.createVolume("far", { storage_class: "replicated" });
      await client.createVolume("near");
      const sandbox = await Sandbox.create({ volumes: { "/f": "far" } });
      // Each line is on stable storage before it is told of.
      const script = "i=0; while :; do i=$((i+1)); echo $i >> /f/log; sync /f/log; echo $i; done";
      const child = await sandbox.spawn("bash", { args: ["-c", script], stdout: "piped" });
      let told = 0;
      const reader = child.stdout?.pipeThrough(new TextDecoderStream()).getReader();
      assert.ok(reader);
      while (told < 50) {
        const { value, done } = await reader.read();
        assert.ok(!done);
        told = Math.max(told, ...value.trim().split("\n").map(Number));
      }

      // All that the machine had but its rows: its pool, and what it knew of the cluster.
      await server.kill();
      await rm(join(server.dataDirectory, "regions"), { recursive: true });
      await server.start();
      Object.assign(process.env, server.clientEnv());
      const log = await client.with({ volumes: { "/f": "far" } }, (next) => next.fs.readTextFile("/f/log"));
      const lines = log.trim().split("\n");
      assert.ok(lines.length >= told, `${lines.length} lines are there, of ${told} that were acknowledged`);
      assert.deepEqual(
        lines,
        lines.map((_, index) => String(index + 1)),
      );
      assert.match(server.logText(), /the image of a volume or snapshot is missing from the pool/, "the local one");
    });
  });

  test("a cluster that does not answer makes replicated volumes unavailable, keeps nothing else from going on, and is back by itself", async () => {
    await withCeph(async ({ ceph, server, client }) => {
      await client.createVolume("far", { storage_class: "replicated" });
      await client.createVolume("near");
      await server.stop();
      await ceph.freeze();
      try {
        await server.start();
        Object.assign(process.env, server.clientEnv());
        const shown = await client.extended<Shown>("GET", "/api/v2/volumes/far");
        assert.match(shown.unavailable ?? "", /the replicated pool ceph:volumes cannot be used/);
        const [pool] = await client.rest<Pool[]>("GET", "/api/v1/pools");
        assert.deepEqual(
          pool?.disks.map((disk) => [disk.storage_class, disk.problem === null]),
          [
            ["local", true],
            ["replicated", false],
          ],
        );
        await client.with({ volumes: { "/n": "near" } }, (sandbox) => sandbox.fs.writeTextFile("/n/file", "near"));
      } finally {
        ceph.thaw();
      }
      const back = async () =>
        (await client.extended<Shown>("GET", "/api/v2/volumes/far")).unavailable === null || null;
      await eventually("the cluster's pool is opened again", back, 90_000);
      await client.with({ volumes: { "/f": "far" } }, (sandbox) => sandbox.fs.writeTextFile("/f/file", "far"));
    });
  });
});
