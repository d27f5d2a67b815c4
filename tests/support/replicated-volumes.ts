import assert from "node:assert/strict";
import { shell, type TestClient } from "./client.ts";
import { eventually } from "./eventually.ts";

export interface Shown {
  readonly id: string;
  readonly storage_class: string;
  readonly unavailable: string | null;
}

export interface Pool {
  readonly disks: readonly { directory: string; storage_class: string; problem: string | null; used: number }[];
}

/** Makes volumes of both classes, uses them, copies them from one class to the other and back, and deletes them, on a server whose replicated pool is empty. */
export async function checkReplicatedVolumes(
  client: TestClient,
  { isSpaceFreeSoon }: { readonly isSpaceFreeSoon: boolean },
): Promise<void> {
  const show = (kind: "volumes" | "snapshots", slug: string) =>
    client.extended<Shown>("GET", `/api/v2/${kind}/${slug}`);
  const used = async (): Promise<readonly [string, number][]> => {
    const [pool] = await client.rest<Pool[]>("GET", "/api/v1/pools");
    return pool?.disks.map((each): [string, number] => [each.storage_class, each.used]) ?? [];
  };
  const usedAt = (disks: readonly [string, number][]): number => disks[1]?.[1] ?? 0;
  const emptyBytes = usedAt(await used());
  const plain = await client.createVolume("plain");
  assert.deepEqual(Object.keys(plain).sort(), [
    ...["base_snapshot", "capacity", "estimated_allocated_size", "estimated_flattened_size"],
    ...["id", "is_bootable", "region", "slug", "used"],
  ]);
  assert.equal((await show("volumes", "plain")).storage_class, "local");
  await client.createVolume("far", { storage_class: "replicated" });
  assert.equal((await show("volumes", "far")).storage_class, "replicated");
  const size = 64 * 2 ** 20;
  await client.with({ volumes: { "/v": "far" } }, async (sandbox) => {
    await shell(sandbox, `head -c ${size} /dev/urandom > /v/data && sha256sum /v/data > /v/sum && sync`);
    await client.snapshot("far", "far-1");
  });
  assert.deepEqual(
    (await used()).map(([storageClass]) => storageClass),
    ["local", "replicated"],
  );
  // A cluster counts some seconds later.
  const isCounted = async () => usedAt(await used()) >= emptyBytes + size || null;
  await eventually("the replicated pool holds the file", isCounted, 60_000);
  assert.equal((await show("snapshots", "far-1")).storage_class, "replicated");

  await client.createVolume("near", { from: "far-1", storage_class: "local" });
  await client.snapshot("near", "near-1");
  await client.createVolume("back", { from: "near-1", storage_class: "replicated", capacity: "400MB" });
  const classes = ["near", "back"].map(async (slug) => (await show("volumes", slug)).storage_class);
  assert.deepEqual(await Promise.all(classes), ["local", "replicated"]);
  await client.with({ volumes: { "/n": "near", "/b": "back" } }, async (sandbox) => {
    for (const directory of ["/n", "/b"])
      await shell(sandbox, `cd ${directory} && sed "s, /v/, ," sum | sha256sum --check`);
  });
  const areBothCounted = async () => usedAt(await used()) >= emptyBytes + 2 * size || null;
  await eventually("the replicated pool holds the copy", areBothCounted, 60_000);
  for (const slug of ["far", "back"]) await client.rest("DELETE", `/api/v2/volumes/${slug}?now=true`);
  await client.rest("DELETE", "/api/v2/snapshots/far-1?now=true");
  const isFreed = async () => usedAt(await used()) <= emptyBytes + size / 2 || null;
  if (isSpaceFreeSoon) await eventually("what two volumes and a snapshot held is free", isFreed, 60_000);
  assert.deepEqual(await client.rest("GET", "/api/v2/volumes?deleted=true"), [], "they are gone for good");

  const root = { from: "builtin:debian-13", capacity: "10GB", storage_class: "replicated" };
  assert.match((await client.createVolume("root", root)).id, /^vol_ord_o/);
  await client.with({ root: "root" }, async (sandbox) => {
    await sandbox.fs.writeTextFile("/home/app/kept", "kept");
    await client.snapshot("root", "root-1");
  });
  await client.createVolume("fork", { from: "root-1", capacity: "10GB", storage_class: "replicated" });
  for (const from of ["root-1", "fork"])
    assert.equal(await client.with({ root: from }, (sandbox) => sandbox.fs.readTextFile("/home/app/kept")), "kept");
}
