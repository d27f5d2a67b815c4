import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { Client, Sandbox } from "@deno/sandbox";
import { shell } from "./support/client.ts";
import { TestServer } from "./support/server.ts";

/** The workflow that the documentation of the hosted service shows, whole, with its own client. Installs from the package registries. */
suite("documented workflow", { timeout: testTimeoutMs(900_000) }, () => {
  let server: TestServer;
  before(async () => {
    server = await TestServer.start();
    Object.assign(process.env, server.clientEnv());
  });
  after(() => server[Symbol.asyncDispose]());

  test("install tools in a sandbox and use them there", async () => {
    await using sandbox = await Sandbox.create();
    await shell(sandbox, "sudo apt-get update && sudo apt-get install -y nodejs npm");
    await shell(sandbox, "npm install -g typescript");
    assert.match(await sandbox.sh`tsc --version`.text(), /^Version \d/);
    assert.match(await sandbox.sh`node --version`.text(), /^v24\./);
  });

  test("install tools on a bootable volume, snapshot it, boot from the snapshot, fork, change the fork", async () => {
    const client = new Client();
    const volume = await client.volumes.create({
      slug: "toolchain",
      region: "ord",
      capacity: "10GiB",
      from: "builtin:debian-13",
    });
    assert.ok(volume.isBootable);
    {
      await using sandbox = await Sandbox.create({ region: "ord", root: volume.slug });
      await shell(sandbox, "sudo apt-get update && sudo apt-get install -y nodejs npm");
      await shell(sandbox, "npm install -g typescript");
      await client.volumes.snapshot(volume.id, { slug: "toolchain-v1" });
    }
    {
      await using sandbox = await Sandbox.create({ region: "ord", root: "toolchain-v1" });
      assert.match(await sandbox.sh`tsc --version`.text(), /^Version \d/);
      // The one that the image brings, not Debian's older one, which is there too.
      assert.match(await sandbox.sh`node --version`.text(), /^v24\./);
      assert.match(await sandbox.sh`/usr/bin/node --version`.text(), /^v20\./);
    }
    const page = await client.snapshots.list({ search: "toolchain" });
    assert.deepEqual(
      page.items.map((snapshot) => [snapshot.slug, snapshot.isBootable]),
      [["toolchain-v1", true]],
    );
    const fork = await client.volumes.create({
      slug: "toolchain-fork",
      region: "ord",
      capacity: "10GiB",
      from: "toolchain-v1",
    });
    assert.equal(fork.baseSnapshot?.slug, "toolchain-v1");
    {
      await using sandbox = await Sandbox.create({ region: "ord", root: fork.slug });
      await shell(sandbox, "sudo npm uninstall -g typescript");
      await sandbox.fs.writeTextFile("/home/app/fork.txt", "changed");
    }
    await client.volumes.snapshot(fork.slug, { slug: "toolchain-v2" });
    {
      await using sandbox = await Sandbox.create({ region: "ord", root: "toolchain-v2" });
      assert.equal(await sandbox.fs.readTextFile("fork.txt"), "changed");
      assert.equal((await sandbox.sh`command -v tsc`.noThrow()).status.success, false);
    }
    for (const slug of ["toolchain-v1", "toolchain-v2"]) await client.snapshots.delete(slug);
    for (const slug of ["toolchain", "toolchain-fork"]) await client.volumes.delete(slug);
    assert.deepEqual((await client.volumes.list({ search: "toolchain" })).items, []);
  });
});
