import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { Client, Sandbox } from "@deno/sandbox";
import { TestServer } from "./support/server.ts";

/** The unmodified official client, as a user's program uses it. */
suite("official JavaScript client", () => {
  let server: TestServer;
  let client: Client;

  before(async () => {
    server = await TestServer.start();
    Object.assign(process.env, server.clientEnv());
    client = new Client();
  });
  after(() => server[Symbol.asyncDispose]());

  test("a file survives the sandbox that wrote it", async () => {
    const volume = await client.volumes.create({ slug: "dataset", region: "ord", capacity: "1GB" });
    {
      await using sandbox = await Sandbox.create({
        region: "ord",
        volumes: { "/data/dataset": volume.slug },
        labels: { job: "prepare" },
      });
      await sandbox.fs.writeTextFile("/data/dataset/hello.txt", "Persist me!\n");
      assert.equal((await sandbox.sh`cat /data/dataset/hello.txt`.text()).trim(), "Persist me!");
    }
    const second = await Sandbox.create({ region: "ord", volumes: { "/data/dataset": volume.id } });
    assert.equal(await second.fs.readTextFile("/data/dataset/hello.txt"), "Persist me!\n");
    await second.kill();
    await client.volumes.delete(volume.slug);
    assert.equal(await client.volumes.get(volume.slug), null);
  });

  test("volumes are created, found, listed and deleted with the exact wire form", async () => {
    const created = await client.volumes.create({ slug: "wire-form", region: "ord", capacity: "300MB" });
    const response = await server.request("/api/v2/volumes/wire-form");
    const wire = (await response.json()) as Record<string, unknown>;
    assert.deepEqual(Object.keys(wire).sort(), [
      "base_snapshot",
      "capacity",
      "estimated_allocated_size",
      "estimated_flattened_size",
      "id",
      "is_bootable",
      "region",
      "slug",
      "used",
    ]);
    assert.equal(wire.used, wire.estimated_flattened_size);
    assert.deepEqual([wire.capacity, wire.is_bootable, wire.base_snapshot], [300e6, false, null]);
    assert.match(created.id, /^vol_ord_[0-9a-hjkmnp-z]{20}$/);
    assert.deepEqual({ ...(await client.volumes.get(created.id)) }, { ...created });
    const slugs: string[] = [];
    for await (const volume of await client.volumes.list({ search: "WIRE" })) slugs.push(volume.slug);
    assert.deepEqual(slugs, ["wire-form"]);
    await client.volumes.delete(created.id);
  });

  test("pages follow one another through the Link header", async () => {
    for (const slug of ["page-a", "page-b", "page-c"])
      await client.volumes.create({ slug, region: "ord", capacity: "300MB" });
    let page = await client.volumes.list({ limit: 2, search: "page-" });
    assert.deepEqual(
      page.items.map((volume) => volume.slug),
      ["page-c", "page-b"],
    );
    assert.ok(page.hasMore);
    page = (await page.getNextPage()) as typeof page;
    assert.deepEqual([page.items.map((volume) => volume.slug), page.hasMore], [["page-a"], false]);
    for (const slug of ["page-a", "page-b", "page-c"]) await client.volumes.delete(slug);
  });

  test("a sandbox that was killed cannot be connected to, and the list says that it stopped", async () => {
    const sandbox = await Sandbox.create({ labels: { job: "killed" } });
    const { id } = sandbox;
    await sandbox.kill();
    await assert.rejects(Sandbox.connect({ id }));
    const [listed] = await client.sandboxes.list({ labels: { job: "killed" } });
    assert.deepEqual([listed?.id, listed?.status], [id, "stopped"]);
  });

  test("a REPL that ends while the agent looks at it, in a sandbox just made, harms nothing", async () => {
    for (let round = 0; round < 8; round += 1) {
      await using sandbox = await Sandbox.create();
      assert.equal(await sandbox.deno.eval("1 + 2"), 3);
      assert.equal(await sandbox.deno.eval("2 + 2"), 4);
      assert.equal(await sandbox.sh`echo alive`.text(), "alive\n");
    }
  });
});
