import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { pathToFileURL } from "node:url";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { type ObjectStore, openObjectStore } from "@caisson/objects";
import { sourceOf } from "../../testing/index.ts";
import { CHUNK_BYTES } from "../chunk.ts";
import { Backups } from "./backups.ts";
import { CountedChunks } from "./counted-chunks.ts";
import { OrganizationKeys } from "./organization-keys.ts";
import { Pacer } from "./pacer.ts";

const SIGNAL = new AbortController().signal;
const HOUR_MS = 3_600_000;
const NOON_MS = Date.parse("2026-11-27T12:00:00Z");

suite("backups", () => {
  let directory: string;
  let objects: ObjectStore;
  const key = randomBytes(32);
  const openBackups = (installationKey = key, over: Partial<ObjectStore> = {}): Backups => {
    const store = Object.assign(Object.create(objects) as ObjectStore, bound(objects), over);
    const keys = new OrganizationKeys(store, { current: installationKey, next: null });
    return new Backups({
      ...{ objects: store, pacer: new Pacer(null), counted: new CountedChunks(), graceMs: HOUR_MS },
      keys: async () => keys,
      requireOwn: async () => undefined,
    });
  };
  const create = (backups: Backups, image: Buffer, { isAutomatic = true, atMs = NOON_MS } = {}) =>
    backups.create(
      async () => ({ image: sourceOf(image), content: CONTENT }),
      { isAutomatic, now: () => atMs },
      SIGNAL,
    );
  const read = async (backups: Backups, id: string): Promise<Buffer> => {
    const { manifest, chunks } = await backups.open(id, SIGNAL);
    const image = Buffer.alloc(manifest.sizeBytes);
    for await (const { index, bytes } of chunks()) image.set(bytes, index * CHUNK_BYTES);
    return image;
  };
  const filesBelow = async (folder: string): Promise<readonly string[]> =>
    (await readdir(join(directory, folder), { recursive: true, withFileTypes: true }).catch(() => []))
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-backups-"));
    objects = await openObjectStore({
      url: pathToFileURL(directory).href,
      ...{ endpoint: null, region: null, isPathStyle: false, authorityPath: null },
    });
  });
  afterEach(() => rm(directory, { recursive: true }));

  test("a backup comes back as it was, with its files, by the key alone", async () => {
    const image = Buffer.concat([randomBytes(CHUNK_BYTES), Buffer.alloc(CHUNK_BYTES), randomBytes(100)]);
    const { id, sizeBytes } = await create(openBackups(), image);
    assert.equal(sizeBytes, image.length);
    const backups = openBackups();
    assert.deepEqual(await backups.list(SIGNAL), [{ id, atMs: NOON_MS, isAutomatic: true }]);
    assert.ok((await read(backups, id)).equals(image));
    const { manifest } = await backups.open(id, SIGNAL);
    assert.deepEqual(
      { ...manifest, chunks: [], sizeBytes: 0, imageDigest: "" },
      { ...CONTENT, chunks: [], sizeBytes: 0, imageDigest: "" },
    );
    await assert.rejects(openBackups(randomBytes(32)).open(id, SIGNAL), /the key of this installation does not fit/);
    for (const path of await filesBelow(".")) assert.ok(!(await readFile(path)).includes("secret of a file"), path);
  });

  test("an automatic one sends what changed; the first of a day, and one by hand, count on nothing", async () => {
    const backups = openBackups();
    const image = randomBytes(4 * CHUNK_BYTES);
    assert.ok((await create(backups, image)).sentBytes > 4 * CHUNK_BYTES);
    image[0] = (image[0] ?? 0) ^ 1;
    const second = await create(backups, image, { atMs: NOON_MS + 900_000 });
    assert.ok(second.sentBytes > CHUNK_BYTES && second.sentBytes < 2 * CHUNK_BYTES, `${second.sentBytes}`);
    for (const more of [{ isAutomatic: false, atMs: NOON_MS + 950_000 }, { atMs: NOON_MS + 13 * HOUR_MS }])
      assert.ok((await create(backups, image, more)).sentBytes > 4 * CHUNK_BYTES, JSON.stringify(more));
    for (const { id } of (await backups.list(SIGNAL)).slice(0, 3)) assert.ok((await read(backups, id)).equals(image));
  });

  test("a chunk that changed harms no backup of another day", async () => {
    const backups = openBackups();
    const image = randomBytes(4 * CHUNK_BYTES);
    await create(backups, image);
    const first = await filesBelow("chunks");
    const nextDayMs = NOON_MS + 13 * HOUR_MS;
    for (const minutes of [0, 15, 30, 45]) await create(backups, image, { atMs: nextDayMs + minutes * 60_000 });
    assert.equal((await filesBelow("chunks")).length, 2 * first.length, "each day has its own, once");
    for (const path of first) await writeFile(path, (await readFile(path)).fill(7, 30, 31));
    const all = await backups.list(SIGNAL);
    for (const { id } of all.slice(0, 4)) assert.ok((await read(backups, id)).equals(image));
    await assert.rejects(read(backups, all.at(-1)?.id ?? ""), /is damaged/);
  });

  test("a try that failed is gone on with, and after a newest one that is damaged everything is sent", async () => {
    let isFull = true;
    const put = objects.put.bind(objects);
    const backups = openBackups(key, {
      put: async (name, bytes, signal) => {
        if (isFull && name.startsWith("backups/")) throw new Error("full");
        await put(name, bytes, signal);
      },
    });
    const image = randomBytes(2 * CHUNK_BYTES);
    for (const _ of [1, 2]) await assert.rejects(create(backups, image), /full/);
    assert.equal((await filesBelow("chunks")).length, 2, "the second try has sent nothing again");
    isFull = false;
    const { id, sentBytes } = await create(backups, image);
    assert.ok(sentBytes < CHUNK_BYTES, `${sentBytes}`);
    const path = join(directory, "backups", id);
    await writeFile(path, (await readFile(path)).subarray(0, -1));
    const next = await create(backups, image);
    assert.ok(next.sentBytes > 2 * CHUNK_BYTES, `${next.sentBytes}`);
    assert.ok((await read(backups, next.id)).equals(image));
  });

  test("what was cut off is no backup, and a clock that went back makes none that looks older", async () => {
    const backups = openBackups();
    const late = await create(backups, randomBytes(100), { atMs: NOON_MS + HOUR_MS });
    const failing = openBackups(key, {
      put: async (name, bytes, signal) => {
        if (name.startsWith("backups/")) throw new Error("cut off");
        await objects.put(name, bytes, signal);
      },
    });
    await assert.rejects(create(failing, randomBytes(100)), /cut off/);
    assert.deepEqual(
      (await backups.list(SIGNAL)).map(({ id }) => id),
      [late.id],
    );
    const next = await create(backups, randomBytes(100));
    assert.equal(next.atMs, late.atMs + 1000);
    assert.deepEqual(
      (await backups.list(SIGNAL)).map(({ id }) => id),
      [next.id, late.id],
    );
  });

  test("a sweep deletes the chunks that no backup has, a grace later, and nothing while a backup cannot be read", async () => {
    const backups = openBackups();
    const shared = randomBytes(CHUNK_BYTES);
    const first = await create(backups, Buffer.concat([shared, randomBytes(CHUNK_BYTES)]));
    const image = Buffer.concat([shared, randomBytes(CHUNK_BYTES)]);
    const second = await create(backups, image, { atMs: NOON_MS + 1000 });
    assert.equal((await filesBelow("chunks")).length, 3);
    assert.equal(await backups.delete(first.id, SIGNAL), true);
    assert.equal(await backups.delete(first.id, SIGNAL), false);
    const sweepAt = (ms: number) => backups.sweep(() => ms, SIGNAL);
    assert.equal((await sweepAt(1000)).deletedChunks, 0);
    const path = join(directory, "backups", second.id);
    const bytes = await readFile(path);
    await writeFile(path, bytes.subarray(0, -1));
    await assert.rejects(sweepAt(1000 + HOUR_MS), /it is damaged/);
    await writeFile(path, bytes);
    assert.equal((await sweepAt(1000 + HOUR_MS)).deletedChunks, 1);
    assert.ok((await read(backups, second.id)).equals(image));
  });

  test("one that a newer program made says so, and is not called damaged", async () => {
    const backups = openBackups();
    const { id } = await create(backups, randomBytes(100));
    const [objectKey, path] = [`backups/${id}`, join(directory, "backups", id)];
    const bytes = await readFile(path);
    const sealing = await new OrganizationKeys(objects, { current: key, next: null }).get(
      "installation",
      bytes.subarray(0, 16).toString(),
    );
    const text = zstdDecompressSync(sealing.unseal(objectKey, bytes.subarray(17))).toString();
    const newer = zstdCompressSync(text.replace('"format":1', '"format":2'));
    await writeFile(path, Buffer.concat([bytes.subarray(0, 17), sealing.seal(objectKey, newer)]));
    await assert.rejects(backups.open(id, SIGNAL), { code: "NOT_SUPPORTED", message: /version 2, .* reads version 1/ });
    assert.ok((await create(backups, randomBytes(100))).id > id, "backups go on");
  });

  test("a chunk that is missing, cut or changed is an error and never data", async () => {
    const backups = openBackups();
    const { id } = await create(backups, randomBytes(100));
    const [path] = await filesBelow("chunks");
    assert.ok(path);
    const bytes = await readFile(path);
    for (const wrong of [bytes.subarray(0, -1), Buffer.from(bytes).fill(7, 30, 31), null]) {
      if (wrong === null) await rm(path);
      else await writeFile(path, wrong);
      await assert.rejects(read(backups, id), {
        code: "SNAPSHOT_STORE_UNAVAILABLE",
        message: /chunk 0 .* is (damaged|missing)/,
      });
    }
  });
});

const CONTENT = {
  ...{ version: "1.2.3", schemaVersion: 9, rows: { disks: 2 } },
  snapshots: [{ organizationId: "org_a", id: "snp_1" }],
  files: [{ path: "caisson.toml", mode: 0o600, bytes: Buffer.from("# secret of a file") }],
};

/** The methods of a store, for objects that are not it. */
function bound(objects: ObjectStore): Partial<ObjectStore> {
  return {
    put: objects.put.bind(objects),
    get: objects.get.bind(objects),
    list: objects.list.bind(objects),
    delete: objects.delete.bind(objects),
  };
}
