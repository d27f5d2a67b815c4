import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { pathToFileURL } from "node:url";
import { CaissonError } from "@caisson/model";
import { type ObjectStore, openObjectStore } from "@caisson/objects";
import { CHUNK_BYTES, type SnapshotHeader, type SourceImage } from "../index.ts";
import { SnapshotStore } from "./snapshot-store.ts";

const SIGNAL = new AbortController().signal;
const HOUR_MS = 3_600_000;
const MARK = "what a snapshot holds is nobody's business ";

suite("the snapshot store", () => {
  let directory: string;
  let objects: ObjectStore;
  const key = randomBytes(32);

  const openStore = (installationKey = key, over: Partial<ObjectStore> = {}): SnapshotStore =>
    new SnapshotStore({
      objects: Object.assign(Object.create(objects) as ObjectStore, bound(objects), over),
      ...{ installationKey, bytesPerSecond: null, graceMs: HOUR_MS },
    });
  const filesBelow = async (folder: string): Promise<readonly string[]> =>
    (await readdir(join(directory, folder), { recursive: true, withFileTypes: true }).catch(() => []))
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
  const upload = (store: SnapshotStore, id: string, image: Buffer, organizationId = "org_a") =>
    store.upload({ organizationId, id }, headerFor(image), sourceOf(image), SIGNAL);

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-store-"));
    objects = await openObjectStore({
      url: pathToFileURL(directory).href,
      ...{ endpoint: null, region: null, isPathStyle: false, authorityPath: null },
    });
  });
  afterEach(() => rm(directory, { recursive: true }));

  test("only what the store lacks is sent, and the figures say so", async () => {
    const store = openStore();
    const image = imageOf(randomBytes(CHUNK_BYTES), textChunk(), Buffer.alloc(CHUNK_BYTES), textChunk());
    const first = await upload(store, "snp_1", image);
    assert.equal(first.readBytes, 3 * CHUNK_BYTES, "zeros are not counted");
    assert.equal((await filesBelow("chunks")).length, 2, "one for the two that are the same");
    assert.ok(
      first.sentBytes > CHUNK_BYTES && first.sentBytes < CHUNK_BYTES + 10_000,
      "text is compressed, noise is not",
    );
    image.fill(7, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 100);
    const second = await upload(openStore(), "snp_2", image);
    assert.ok(second.sentBytes < 10_000, `${second.sentBytes} bytes for a hundred that changed`);
    assert.ok(second.storedBytes > CHUNK_BYTES, "what it shares counts for both");
    const again = await upload(openStore(), "snp_2", image);
    assert.equal(again.imageDigest, second.imageDigest);
    assert.equal((await filesBelow("chunks")).length, 3);
  });

  test("nothing in the store shows what is in it, and two organizations with the same bytes have nothing in common", async () => {
    const store = openStore();
    const image = imageOf(textChunk());
    await upload(store, "snp_a", image, "org_a");
    await upload(store, "snp_b", image, "org_b");
    const names = new Set<string>();
    for (const path of await filesBelow(".")) {
      const bytes = await readFile(path);
      assert.ok(!bytes.includes(MARK) && !bytes.includes("secret-slug") && !bytes.includes(key), path);
    }
    for (const path of await filesBelow("chunks")) names.add(path.slice(path.lastIndexOf("/") + 1).split("-")[0] ?? "");
    assert.equal(names.size, 2);
  });

  test("a chunk that the store has lost is noticed before anything shows the snapshot", async () => {
    const image = imageOf(randomBytes(CHUNK_BYTES), randomBytes(CHUNK_BYTES));
    let count = 0;
    const losing = openStore(key, {
      async put(objectKey, bytes) {
        if (objectKey.startsWith("chunks/") && ++count === 2) return;
        await objects.put(objectKey, bytes);
      },
    });
    await assert.rejects(upload(losing, "snp_1", image), { message: /lost the chunk/ });
    assert.deepEqual(await filesBelow("manifests"), []);
    const { sentBytes } = await upload(openStore(), "snp_1", image);
    assert.ok(sentBytes < 1.1 * CHUNK_BYTES, "what was there is not sent again");
    assert.equal((await filesBelow("manifests")).length, 1);
  });

  test("a chunk that was cut in the store is noticed, and stored again", async () => {
    const image = imageOf(randomBytes(CHUNK_BYTES));
    const cutting = openStore(key, {
      put: (objectKey, bytes) =>
        objects.put(objectKey, objectKey.startsWith("chunks/") ? bytes.subarray(0, 10) : bytes),
    });
    await assert.rejects(upload(cutting, "snp_1", image), { message: /lost the chunk/ });
    const { sentBytes } = await upload(openStore(), "snp_1", image);
    assert.ok(sentBytes > CHUNK_BYTES);
  });

  test("a manifest that does not come back as it was stored is no success", async () => {
    const store = openStore(key, {
      put: (objectKey, bytes) => objects.put(objectKey, objectKey.startsWith("manifests/") ? bytes.subarray(1) : bytes),
    });
    await assert.rejects(upload(store, "snp_1", imageOf(textChunk())), { message: /manifest of snp_1/ });
  });

  test("another installation's store is refused, and so is its key", async () => {
    await upload(openStore(), "snp_1", imageOf(textChunk()));
    const before = await filesBelow(".");
    const foreign = { code: "SNAPSHOT_STORE_UNAVAILABLE", message: /another installation key/ };
    await assert.rejects(upload(openStore(randomBytes(32)), "snp_2", imageOf(textChunk())), foreign);
    assert.deepEqual(await filesBelow("."), before);
  });

  test("a key of an organization that was changed in the store is refused", async () => {
    await upload(openStore(), "snp_1", imageOf(textChunk()));
    const [path] = await filesBelow("keys");
    assert.ok(path);
    const bytes = await readFile(path);
    bytes[20] = (bytes[20] ?? 0) ^ 1;
    await writeFile(path, bytes);
    await assert.rejects(upload(openStore(), "snp_2", imageOf(textChunk())), { message: /does not fit/ });
  });

  test("an upload ends when it is told to, and shows nothing", async () => {
    const stopping = new AbortController();
    const reason = new CaissonError("SHUTTING_DOWN", "The server is stopping");
    const store = openStore(key, {
      async put(objectKey, bytes) {
        if (objectKey.startsWith("chunks/")) stopping.abort(reason);
        await objects.put(objectKey, bytes);
      },
    });
    const image = imageOf(...Array.from({ length: 12 }, () => randomBytes(CHUNK_BYTES)));
    const uploading = store.upload(
      { organizationId: "org_a", id: "snp_1" },
      headerFor(image),
      sourceOf(image),
      stopping.signal,
    );
    await assert.rejects(uploading, reason);
    assert.deepEqual(await filesBelow("manifests"), []);
  });

  test("uploads keep to the bandwidth", async () => {
    const store = new SnapshotStore({
      objects,
      installationKey: key,
      bytesPerSecond: 2 * CHUNK_BYTES,
      graceMs: HOUR_MS,
    });
    const startMs = performance.now();
    await upload(store, "snp_1", imageOf(...Array.from({ length: 4 }, () => randomBytes(CHUNK_BYTES))));
    assert.ok(performance.now() - startMs >= 1400, "the fourth chunk waits for three");
  });

  test("an upload that takes longer than half of the grace is no success", async () => {
    const store = new SnapshotStore({ objects, installationKey: key, bytesPerSecond: null, graceMs: 1 });
    await assert.rejects(upload(store, "snp_1", imageOf(randomBytes(CHUNK_BYTES))), { message: /grace_hours/ });
    assert.deepEqual(await filesBelow("manifests"), []);
  });
});

function bound(objects: ObjectStore): Partial<ObjectStore> {
  return {
    put: objects.put.bind(objects),
    get: objects.get.bind(objects),
    list: objects.list.bind(objects),
    delete: objects.delete.bind(objects),
  };
}

function textChunk(): Buffer {
  return Buffer.alloc(CHUNK_BYTES, MARK);
}

function imageOf(...chunks: readonly Buffer[]): Buffer {
  return Buffer.concat(chunks);
}

function sourceOf(image: Buffer): SourceImage {
  return {
    sizeBytes: image.length,
    async *pieces() {
      yield { offset: 0, bytes: image };
    },
  };
}

function headerFor(image: Buffer): Omit<SnapshotHeader, "chunkBytes"> {
  return {
    sizeBytes: image.length,
    dataBytes: null,
    fileSystem: { type: "ext4", uuid: "0".repeat(32), sizeBytes: image.length },
    ...{ slug: "secret-slug", labels: {}, isBootable: false, consistency: "clean" },
    createdAt: "2026-11-27T12:00:00.000Z",
    origin: { snapshotId: "snp", region: "ord", volume: null, baseSnapshot: null },
    parent: null,
  };
}
