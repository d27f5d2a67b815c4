// Volumes, as the documentation of Deno Sandbox shows them: create, mount by slug and by id, list, delete.
import assert from "node:assert/strict";
import { Client, Sandbox, Volume } from "@deno/sandbox";

const client = new Client();

const volume = await client.volumes.create({ slug: "docs-volume", region: "ord", capacity: "1GB" });
assert.ok(volume instanceof Volume);
assert.equal(volume.capacity, 1_000_000_000);
assert.equal(volume.isBootable, false);
assert.equal(volume.baseSnapshot, null);

{
  await using sandbox = await Sandbox.create({
    region: "ord",
    volumes: { "/data/dataset": volume.slug },
    labels: { job: "docs" },
  });
  await sandbox.fs.writeTextFile("/data/dataset/hello.txt", "Persist me!\n");
}
{
  await using sandbox = await client.sandboxes.create({ region: "ord", volumes: { "/data/dataset": volume.id } });
  const contents = await sandbox.fs.readTextFile("/data/dataset/hello.txt");
  console.log(contents.trim());
}

const page = await client.volumes.list({ search: "docs-v" });
for await (const { slug, estimatedFlattenedSize, capacity } of page) {
  assert.equal(slug, "docs-volume");
  assert.ok(estimatedFlattenedSize <= capacity);
}
assert.equal((await Volume.get("docs-volume"))?.id, volume.id);
await client.volumes.delete(volume.slug);
assert.equal(await client.volumes.get(volume.id), null);
