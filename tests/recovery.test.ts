import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Sandbox } from "@deno/sandbox";
import { TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { FaultPlan } from "./support/fault-plan.ts";
import { TestServer } from "./support/server.ts";

/** What cannot be settled at the start keeps nobody else away. */
suite("recovery", { timeout: testTimeoutMs(900_000) }, () => {
  test("a region taken out of the settings is reported and kept, and is there again when the settings name it", async () => {
    await using server = await TestServer.start({ settings: 'regions = ["ord", "ams"]\n' });
    const client = new TestClient(server);
    const restart = async (regions: string): Promise<void> => {
      await server.kill();
      await writeFile(join(server.dataDirectory, "caisson.toml"), `regions = ${regions}\n`);
      await server.start();
      Object.assign(process.env, server.clientEnv());
    };
    Object.assign(process.env, server.clientEnv());
    for (const region of ["ord", "ams"]) await client.createVolume(`in-${region}`, { region });
    const sandbox = await Sandbox.create({ timeout: "5m", volumes: { "/v": "in-ams" } });
    await sandbox.fs.writeTextFile("/v/file", "in ams");
    await sandbox.sh`sync`;

    await restart('["ord"]');
    await sandbox.close().catch(() => {});
    assert.match(server.logText(), /left as it is: the settings do not name its region any more/);
    await client.with({ volumes: { "/v": "in-ord" } }, (next) => next.fs.writeTextFile("/v/file", "in ord"));
    const listed = await client.rest<{ slug: string }[]>("GET", "/api/v2/volumes");
    assert.deepEqual(listed.map(({ slug }) => slug).sort(), ["in-ams", "in-ord"]);
    assert.equal((await client.rest<{ region: string }>("GET", "/api/v2/volumes/in-ams")).region, "ams");
    const [code, message] = await client.refused("POST", "/api/v2/volumes/in-ams/snapshot", { slug: "copy" });
    assert.equal(code, "503 REGION_UNAVAILABLE");
    assert.match(message, /its region "ams" is not in the settings of this server. Add it to "regions"/);
    assert.equal((await client.createRefused({ volumes: { "/v": "in-ams" } }))[0], "503 REGION_UNAVAILABLE");
    assert.equal(
      (await client.refused("DELETE", `/api/v3/sandbox/${sandbox.id}`))[0],
      "503 REGION_UNAVAILABLE",
      "a sandbox of the last run in that region",
    );

    await restart('["ord", "ams"]');
    const text = await client.with({ volumes: { "/v": "in-ams" } }, (next) => next.fs.readTextFile("/v/file"));
    assert.equal(text, "in ams");
  });

  test("an image that cannot be removed is tried again while the server serves, and its name is free at once", async () => {
    const directory = await mkdtemp(join(tmpdir(), "caisson-recovery-"));
    const plan = new FaultPlan(directory);
    await plan.reset();
    try {
      await using server = await TestServer.start({ env: plan.env });
      const client = new TestClient(server);
      await plan.at([{ tag: "volume-create.image:after", occurrence: 1 }], "kill");
      await assert.rejects(client.createVolume("cut-off"));
      await server.exited();
      const failing = Array.from({ length: 4 }, (_, index) => ({
        tag: "disk-purge.delete:before",
        occurrence: index + 1,
      }));
      await plan.at(failing, "fail:EIO");
      await server.start();
      Object.assign(process.env, server.clientEnv());
      assert.match(server.logText(), /cannot settle an unfinished change: it is tried again while the server runs/);
      await client.createVolume("cut-off");
      await client.with({ volumes: { "/v": "cut-off" } }, (sandbox) => sandbox.fs.writeTextFile("/v/file", "here"));
      await server.stop();
      await plan.reset();
      await server.start();
      assert.doesNotMatch(server.logText(), /the database does not know|missing from the pool|cannot settle/);
      assert.equal((await client.rest<{ slug: string }>("GET", "/api/v2/volumes/cut-off")).slug, "cut-off");
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test("a device that is not let go of does not keep the server from starting, and its volume is free when it is", async () => {
    const directory = await mkdtemp(join(tmpdir(), "caisson-recovery-"));
    const plan = new FaultPlan(directory);
    await plan.reset();
    try {
      await using server = await TestServer.start({ env: plan.env });
      Object.assign(process.env, server.clientEnv());
      const client = new TestClient(server);
      await client.createVolume("stuck");
      const sandbox = await Sandbox.create({ timeout: "5m", volumes: { "/v": "stuck" } });
      await sandbox.fs.writeTextFile("/v/file", "kept");
      await sandbox.sh`sync`;
      await server.kill();
      await sandbox.close().catch(() => {});
      // The pauses between the tries double: twelve of them are longer than any start.
      const failing = Array.from({ length: 12 }, (_, index) => ({
        tag: "device.detach:before",
        occurrence: index + 1,
      }));
      await plan.at(failing, "fail:EBUSY");
      await server.start();
      Object.assign(process.env, server.clientEnv());
      assert.match(server.logText(), /"work":"detach an image".*failed, and will be tried again/);
      assert.doesNotMatch(server.logText(), /"work":"detach an image".*done after failures/);
      await plan.reset();
      await eventually(
        "the end of the detaching",
        () => /"work":"detach an image".*done after failures/.test(server.logText()) || null,
        60_000,
      );
      const text = await client.with({ volumes: { "/v": "stuck" } }, (next) => next.fs.readTextFile("/v/file"));
      assert.equal(text, "kept");
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
