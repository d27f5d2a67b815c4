// Snapshots: install once on a bootable volume, take a snapshot, boot many sandboxes and volumes from it.
import assert from "node:assert/strict";
import { Client, Sandbox, Snapshot, Volume } from "@deno/sandbox";

const client = new Client();
const volume = await Volume.create({ slug: "docs-root", region: "ord", capacity: "10GB", from: "builtin:debian-13" });
assert.equal(volume.isBootable, true);
{
  await using sandbox = await Sandbox.create({ region: "ord", root: volume.slug });
  await sandbox.sh`echo installed > /opt/tool`.sudo();
  await sandbox.sh`sync`;
}

const snapshot = await client.volumes.snapshot(volume.id, { slug: "docs-snapshot" });
assert.ok(snapshot instanceof Snapshot);
assert.equal(snapshot.isBootable, true);
assert.equal(snapshot.volume.slug, "docs-root");
assert.equal((await Snapshot.get("docs-snapshot"))?.id, snapshot.id);

const sandboxes = await Promise.all([1, 2].map(() => Sandbox.create({ root: snapshot.slug })));
for (const sandbox of sandboxes) {
  console.log((await sandbox.fs.readTextFile("/opt/tool")).trim());
  await sandbox.fs.writeTextFile("/opt/tool", "changed\n");
}
await Promise.all(sandboxes.map((sandbox) => sandbox.close()));

const clone = await client.volumes.create({ slug: "docs-clone", region: "ord", capacity: "10GB", from: snapshot.slug });
assert.deepEqual(clone.baseSnapshot, { id: snapshot.id, slug: snapshot.slug });
{
  await using sandbox = await Sandbox.create({ root: clone.slug });
  assert.equal(await sandbox.fs.readTextFile("/opt/tool"), "installed\n");
}

const slugs: string[] = [];
for await (const { slug } of await client.snapshots.list({ search: "docs-" })) slugs.push(slug);
assert.deepEqual(slugs, ["docs-snapshot"]);
await client.volumes.delete("docs-clone");
await client.snapshots.delete(snapshot.id);
await client.volumes.delete("docs-root");
