import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { pathToFileURL } from "node:url";
import { zstdCompressSync } from "node:zlib";
import { CaissonError } from "@caisson/model";
import { type ObjectStore, openObjectStore } from "@caisson/objects";
import { headerFor, sourceOf } from "../../testing/index.ts";
import { CHUNK_BYTES, type ImageDifference, type ImagePart, type SourceImage } from "../index.ts";
import { CONDEMNED_MAX } from "./condemned.ts";
import { SnapshotStore } from "./snapshot-store.ts";
import type { RememberedStore, StoreMemory } from "./store-memory.ts";

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
      ...{
        installationKeys: async () => ({ current: installationKey, next: null }),
        bytesPerSecond: null,
        graceMs: HOUR_MS,
      },
      ...{ memory: memoryOf(installationKey), place: "here" },
    });
  /** What each installation remembers. */
  let memories: Map<Buffer, FakeMemory>;
  const memoryOf = (installationKey: Buffer) => {
    const known = memories.get(installationKey) ?? new FakeMemory();
    memories.set(installationKey, known);
    return known;
  };
  const filesBelow = async (folder: string): Promise<readonly string[]> =>
    (await readdir(join(directory, folder), { recursive: true, withFileTypes: true }).catch(() => []))
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
  const upload = (store: SnapshotStore, id: string, image: Buffer, organizationId = "org_a") =>
    store.upload({ organizationId, id }, headerFor(image), sourceOf(image), SIGNAL);

  /** Uploads what changed since the base, and tells whether the image was read whole all the same. */
  const uploadDifference = async (id: string, image: Buffer, changed: readonly ImagePart[], baseId = "snp_1") => {
    let isWholeRead = false;
    const whole: SourceImage = {
      sizeBytes: image.length,
      async *pieces() {
        isWholeRead = true;
        yield* sourceOf(image).pieces();
      },
    };
    const difference: ImageDifference = {
      ...{ sizeBytes: image.length, baseId, changed },
      async *pieces() {
        for (const { offset, length } of changed) yield { offset, bytes: image.subarray(offset, offset + length) };
      },
    };
    const snapshot = { organizationId: "org_a", id };
    const made = await openStore().upload(snapshot, headerFor(image), whole, SIGNAL, difference);
    return { made, isWholeRead };
  };

  beforeEach(async () => {
    memories = new Map();
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

  test("of an image only what differs from an earlier one is read, and the result is that of reading all", async () => {
    const base = imageOf(textChunk(), randomBytes(CHUNK_BYTES), Buffer.alloc(CHUNK_BYTES), randomBytes(CHUNK_BYTES));
    await upload(openStore(), "snp_1", base);
    // Changed, made zero, filled, kept; and grown by a chunk and a half.
    const own = imageOf(base, Buffer.alloc(1.5 * CHUNK_BYTES, 9));
    own.fill(7, 5, 9);
    own.fill(0, CHUNK_BYTES, 2 * CHUNK_BYTES);
    own.fill(8, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 1);
    const whole = await upload(openStore(), "snp_whole", own);
    const changed = [part(0, 3), part(4, 1.5)];
    const { isWholeRead, made } = await uploadDifference("snp_2", own, changed);
    assert.equal(isWholeRead, false);
    assert.equal(made.imageDigest, whole.imageDigest);
    assert.equal(made.readBytes, 3.5 * CHUNK_BYTES, "zeros are not counted");
    assert.equal(made.sharedBytes, CHUNK_BYTES);
    assert.ok((await readBack(openStore(), "snp_2")).equals(own));
    const same = await uploadDifference("snp_3", own, [], "snp_2");
    assert.deepEqual([same.made.readBytes, same.made.imageDigest], [0, whole.imageDigest]);
    assert.ok((await readBack(openStore(), "snp_3")).equals(own));
    const shrunk = own.subarray(0, 4.5 * CHUNK_BYTES);
    const cut = await uploadDifference("snp_4", shrunk, [part(4, 0.5)], "snp_2");
    assert.equal(cut.isWholeRead, false);
    assert.equal(cut.made.readBytes, CHUNK_BYTES / 2);
    assert.ok((await readBack(openStore(), "snp_4")).equals(shrunk));
  });

  test("where a difference cannot be counted on, all is read", async () => {
    const image = imageOf(randomBytes(CHUNK_BYTES), randomBytes(CHUNK_BYTES));
    await upload(openStore(), "snp_1", image);
    const [chunk] = await filesBelow("chunks");
    const isWholeRead = async (own: Buffer, changed: readonly ImagePart[], baseId = "snp_1") => {
      const found = await uploadDifference("snp_2", own, changed, baseId);
      assert.ok((await readBack(openStore(), "snp_2")).equals(own));
      return found.isWholeRead;
    };
    assert.equal(await isWholeRead(image, [], "snp_absent"), true, "its base is not in the store");
    assert.equal(await isWholeRead(image, [{ offset: 5, length: 10 }]), true, "it is not of whole chunks");
    assert.equal(await isWholeRead(image, [part(1, 1), part(0, 1)]), true, "it is not in order");
    const grown = imageOf(image, Buffer.alloc(100, 1));
    assert.equal(await isWholeRead(grown, []), true, "it lacks what lies behind the base");
    const manifest = join(directory, "manifests/org_a/snp_1");
    const bytes = await readFile(manifest);
    await writeFile(manifest, bytes.subarray(0, -1));
    assert.equal(await isWholeRead(image, []), true, "the manifest of its base is damaged");
    await writeFile(manifest, bytes);
    assert.equal(await isWholeRead(image, []), false);
    await rm(chunk ?? "");
    assert.equal(await isWholeRead(image, []), true, "a chunk of its base is lost");
    await isWholeRead(image, []);
    for (const folder of ["keys", "key-copies"]) await rm(join(directory, folder), { recursive: true });
    assert.equal(await isWholeRead(image, []), true, "the key of its base is lost");
  });

  test("what an upload may count on stays from its list on, also while the manifest of its base is read", async () => {
    const [base, left] = [randomBytes(CHUNK_BYTES), randomBytes(CHUNK_BYTES)];
    await upload(openStore(), "snp_1", imageOf(base));
    await upload(openStore(), "snp_left", imageOf(left));
    await openStore().delete({ organizationId: "org_a", id: "snp_left" }, SIGNAL);
    let isSwept = false;
    const store = openStore(key, {
      async get(objectKey, maxBytes) {
        if (objectKey === "manifests/org_a/snp_1" && !isSwept) {
          isSwept = true;
          for (const nowMs of [1000, 1000 + HOUR_MS]) await sweepAt(nowMs, store);
        }
        return objects.get(objectKey, maxBytes);
      },
    });
    const own = imageOf(base, left);
    const difference: ImageDifference = {
      ...{ sizeBytes: own.length, baseId: "snp_1", changed: [part(1, 1)] },
      async *pieces() {
        yield { offset: CHUNK_BYTES, bytes: left };
      },
    };
    const snapshot = { organizationId: "org_a", id: "snp_2" };
    const { sentBytes } = await store.upload(snapshot, headerFor(own), sourceOf(own), SIGNAL, difference);
    assert.ok(isSwept && sentBytes < CHUNK_BYTES, `${sentBytes} bytes were sent`);
    assert.ok((await readBack(openStore(), "snp_2")).equals(own));
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
        objects.put(objectKey, objectKey.startsWith("chunks/") ? bytes.subarray(0, bytes.length / 2) : bytes),
    });
    await assert.rejects(upload(cutting, "snp_1", image), { message: /lost the chunk/ });
    const { sentBytes } = await upload(openStore(), "snp_1", image);
    assert.ok(sentBytes > CHUNK_BYTES);
    assert.ok((await readBack(openStore(), "snp_1")).equals(image));
  });

  test("a chunk that was found damaged is counted on no more, whoever has found it, and its mark goes with it", async () => {
    const image = imageOf(randomBytes(CHUNK_BYTES));
    const damage = async () => {
      const paths = await filesBelow("chunks");
      for (const path of paths) {
        const bytes = await readFile(path);
        bytes[99] = (bytes[99] ?? 0) ^ 1;
        await writeFile(path, bytes);
      }
    };
    await upload(openStore(), "snp_1", image);
    await damage();
    await assert.rejects(readBack(openStore(), "snp_1"), lost(/is damaged/));
    assert.ok((await upload(openStore(), "snp_2", image)).sentBytes > CHUNK_BYTES);
    assert.ok((await readBack(openStore(), "snp_2")).equals(image));
    await damage();
    const { storedProblem } = await openStore().verify({ organizationId: "org_a", id: "snp_2" }, null, null, SIGNAL);
    assert.match(storedProblem ?? "", /is damaged/);
    assert.ok((await upload(openStore(), "snp_3", image)).sentBytes > CHUNK_BYTES);
    assert.equal((await filesBelow("damaged")).length, 2);
    for (const id of ["snp_1", "snp_2"]) await openStore().delete({ organizationId: "org_a", id }, SIGNAL);
    await sweepAt(1000);
    assert.equal((await sweepAt(1000 + HOUR_MS)).deletedChunks, 2);
    assert.deepEqual(await filesBelow("damaged"), []);
    assert.ok((await readBack(openStore(), "snp_3")).equals(image));
  });

  test("a damaged chunk is told also where nothing can be written", async () => {
    await upload(openStore(), "snp_1", imageOf(textChunk()));
    const [path] = await filesBelow("chunks");
    assert.ok(path);
    await writeFile(path, await readFile(path).then((bytes) => bytes.fill(1, 50, 60)));
    const readOnly = openStore(key, { put: () => Promise.reject(new Error("read-only")) });
    await assert.rejects(readBack(readOnly, "snp_1"), lost(/chunk 0 .* is damaged/));
  });

  test("an image that no manifest has room for is refused before it is read", async () => {
    const image: SourceImage = {
      sizeBytes: 2 ** 41,
      pieces: () => assert.fail("it was read"),
    };
    const header = { ...headerFor(Buffer.alloc(0)), sizeBytes: 2 ** 41 };
    const uploading = openStore().upload({ organizationId: "org_a", id: "snp_1" }, header, image, SIGNAL);
    await assert.rejects(uploading, { code: "NOT_SUPPORTED", message: /snp_1 .* 2048 GiB .* at most 14\d\d GiB/ });
    assert.deepEqual(await filesBelow("."), []);
  });

  test("a manifest that nobody could read is not put there", async () => {
    const image = imageOf(textChunk());
    const header = { ...headerFor(image), slug: "No Slug" };
    const uploading = openStore().upload({ organizationId: "org_a", id: "snp_1" }, header, sourceOf(image), SIGNAL);
    await assert.rejects(uploading, { message: /"slug" of its header/ });
    assert.deepEqual(await filesBelow("manifests"), []);
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

  test("a key that is lost is missed by every use, and what another one encrypts after that is read with it", async () => {
    let installationKey: Buffer | null = key;
    const memory = new FakeMemory();
    const open = () =>
      new SnapshotStore({
        ...{ objects, memory, place: "here", bytesPerSecond: null, graceMs: HOUR_MS },
        async installationKeys() {
          if (installationKey === null) throw new Error("it is gone");
          return { current: installationKey, next: null };
        },
      });
    const accept = (store: SnapshotStore) => store.accept(SIGNAL, (accepted) => memory.remember(accepted));
    const [store, image] = [open(), imageOf(randomBytes(CHUNK_BYTES))];
    const snapshot = { organizationId: "org_a", id: "snp_1" };
    const uses = [
      () => upload(store, "snp_1", image),
      () => store.find(snapshot, SIGNAL),
      () => readBack(store, "snp_1"),
      () => sweepAt(1000, store),
      () => store.backups.sweep(Date.now, SIGNAL),
      () => store.requireFree(SIGNAL),
      () => accept(store),
      () => store.delete(snapshot, SIGNAL),
    ];
    for (const use of uses) await use();
    installationKey = null;
    for (const use of uses) await assert.rejects(use(), { message: "it is gone" });
    installationKey = randomBytes(32);
    for (const use of uses) await assert.rejects(use(), { message: /another installation key/ });
    await rm(directory, { recursive: true });
    await mkdir(directory);
    await accept(store);
    await upload(store, "snp_1", image);
    assert.ok((await readBack(open(), "snp_1")).equals(image));
  });

  test("the key is asked for by one use at a time: the first may make it", async () => {
    let [now, most] = [0, 0];
    const store = new SnapshotStore({
      ...{ objects, memory: new FakeMemory(), place: "here", bytesPerSecond: null, graceMs: HOUR_MS },
      async installationKeys() {
        now += 1;
        most = Math.max(most, now);
        await new Promise(setImmediate);
        now -= 1;
        return { current: key, next: null };
      },
    });
    await Promise.all(["snp_1", "snp_2"].map((id) => upload(store, id, imageOf(textChunk()))));
    assert.equal(most, 1);
    assert.equal((await filesBelow("owners")).length, 1);
  });

  test("of two installations that come at once, one has the store, and the other leaves no mark", async () => {
    const meeting = () => {
      const all = Promise.withResolvers<void>();
      let count = 0;
      return async () => {
        count += 1;
        if (count === 2) all.resolve();
        await all.promise;
      };
    };
    const [listed, put] = [meeting(), meeting()];
    const keys = [key, randomBytes(32)];
    const uploads = keys.map((installationKey) => {
      const store = openStore(installationKey, {
        async *list(prefix) {
          const found = await Array.fromAsync(objects.list(prefix));
          if (prefix === "installations/") await listed();
          yield* found;
        },
        async put(objectKey, bytes) {
          await objects.put(objectKey, bytes);
          if (objectKey.startsWith("installations/")) await put();
        },
      });
      return upload(store, "snp_1", imageOf(textChunk()));
    });
    const ends = await Promise.allSettled(uploads);
    assert.deepEqual(ends.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
    assert.equal((await filesBelow("installations")).length, 1);
    const winner = keys[ends.findIndex(({ status }) => status === "fulfilled")];
    await upload(openStore(winner), "snp_2", imageOf(textChunk()));
  });

  test("what others have put beside our objects is no installation, and no key", async () => {
    await upload(openStore(), "snp_1", imageOf(textChunk()));
    for (const path of ["installations/.nfs01", "installations/README", "keys/org_a/.nfs01", "keys/org_a/0-copy"])
      await writeFile(join(directory, path), "");
    await upload(openStore(), "snp_2", imageOf(textChunk()));
  });

  test("a key of an organization that is lost or damaged comes from its copy, and is made again, also the other way round", async () => {
    const image = imageOf(textChunk());
    await upload(openStore(), "snp_1", image);
    const paths = [...(await filesBelow("keys")), ...(await filesBelow("key-copies"))];
    assert.equal(paths.length, 2);
    const [one] = paths;
    const bytes = await readFile(one ?? "");
    const damaged = Buffer.from(bytes);
    damaged[20] = (damaged[20] ?? 0) ^ 1;
    for (const path of paths) {
      for (const spoil of [() => rm(path), () => writeFile(path, damaged), () => writeFile(path, "")]) {
        await spoil();
        assert.ok((await readBack(openStore(), "snp_1")).equals(image));
        await upload(openStore(), "snp_2", image);
        for (const each of paths) assert.ok((await readFile(each)).equals(bytes), each);
      }
    }
    for (const path of paths) await writeFile(path, damaged);
    await assert.rejects(upload(openStore(), "snp_2", image), { message: /nor its copy: it is damaged/ });
    for (const path of paths) assert.ok((await readFile(path)).equals(damaged), "nothing is made in its place");
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
      ...{
        objects,
        installationKeys: async () => ({ current: key, next: null }),
        memory: memoryOf(key),
        place: "here",
      },
      bytesPerSecond: 2 * CHUNK_BYTES,
      graceMs: HOUR_MS,
    });
    const startMs = performance.now();
    await upload(store, "snp_1", imageOf(...Array.from({ length: 4 }, () => randomBytes(CHUNK_BYTES))));
    assert.ok(performance.now() - startMs >= 1400, "the fourth chunk waits for three");
  });

  const readBack = async (store: SnapshotStore, id: string, organizationId = "org_a"): Promise<Buffer> => {
    const { header, chunks } = await store.open({ organizationId, id }, SIGNAL);
    const image = Buffer.alloc(header.sizeBytes);
    for await (const { index, bytes } of chunks()) image.set(bytes, index * header.chunkBytes);
    return image;
  };
  const lost = (message: RegExp) => ({ code: "SNAPSHOT_STORE_UNAVAILABLE", message });

  test("a snapshot comes back byte for byte, with what is known of it", async () => {
    const image = imageOf(randomBytes(CHUNK_BYTES), Buffer.alloc(CHUNK_BYTES), textChunk(), randomBytes(5000));
    const { imageDigest } = await upload(openStore(), "snp_1", image);
    const stored = await openStore().open({ organizationId: "org_a", id: "snp_1" }, SIGNAL);
    assert.deepEqual(stored.header, { ...headerFor(image), chunkBytes: CHUNK_BYTES });
    assert.equal(stored.imageDigest, imageDigest);
    assert.ok((await readBack(openStore(), "snp_1")).equals(image));
    await assert.rejects(readBack(openStore(), "snp_2"), lost(/manifest is missing/));
    await assert.rejects(readBack(openStore(), "snp_1", "org_b"), lost(/manifest is missing/));
  });

  test("what was changed, exchanged or taken away in the store is never given back", async () => {
    const image = imageOf(textChunk(), Buffer.alloc(CHUNK_BYTES, "other text "));
    await upload(openStore(), "snp_1", image);
    const [one, other] = await filesBelow("chunks");
    assert.ok(one !== undefined && other !== undefined);
    const bytes = await readFile(one);
    const changed = Buffer.from(bytes);
    changed[40] = (changed[40] ?? 0) ^ 1;
    for (const wrong of [changed, bytes.subarray(0, -1), Buffer.alloc(0), await readFile(other)]) {
      await writeFile(one, wrong);
      await assert.rejects(readBack(openStore(), "snp_1"), lost(/chunk \d .* is damaged/));
    }
    await rm(one);
    await assert.rejects(readBack(openStore(), "snp_1"), lost(/chunk \d .* is missing/));
    await writeFile(one, bytes);
    assert.ok((await readBack(openStore(), "snp_1")).equals(image));
    const [manifest] = await filesBelow("manifests");
    assert.ok(manifest);
    await writeFile(manifest.replace("snp_1", "snp_2"), await readFile(manifest));
    await assert.rejects(readBack(openStore(), "snp_2"), lost(/manifest is damaged/));
  });

  test("a verification tells a damaged copy from a damaged image", async () => {
    const image = imageOf(randomBytes(CHUNK_BYTES), textChunk());
    const { imageDigest } = await upload(openStore(), "snp_1", image);
    const verify = async (source: Buffer | null) => {
      const snapshot = { organizationId: "org_a", id: "snp_1" };
      const { storedProblem, imageState, readBytes } = await openStore().verify(
        snapshot,
        source && sourceOf(source),
        imageDigest,
        SIGNAL,
      );
      return [storedProblem === null, imageState, readBytes / CHUNK_BYTES];
    };
    assert.deepEqual(await verify(image), [true, "whole", 4]);
    assert.deepEqual(await verify(null), [true, "unknown", 2]);
    const changed = Buffer.from(image);
    changed[9] = (changed[9] ?? 0) ^ 1;
    assert.deepEqual(await verify(changed), [true, "damaged", 4]);
    const [chunk] = await filesBelow("chunks");
    await rm(chunk ?? "");
    const [isWhole, state] = await verify(image);
    assert.deepEqual([isWhole, state], [false, "whole"]);
    const [manifest] = await filesBelow("manifests");
    await rm(manifest ?? "");
    assert.deepEqual(await verify(image), [false, "whole", 2], "the caller knows what it should be");
    await rm(directory, { recursive: true });
    await assert.rejects(verify(image), lost(/directory is not there/));
    await mkdir(directory);
  });

  const sweepAt = (nowMs: number, store = openStore()) => store.sweep("org_a", () => nowMs, SIGNAL);

  test("what no snapshot needs goes a grace after it was found, and nothing else", async () => {
    const store = openStore();
    const shared = randomBytes(CHUNK_BYTES);
    const kept = imageOf(shared, randomBytes(CHUNK_BYTES));
    await upload(store, "snp_1", imageOf(shared, randomBytes(CHUNK_BYTES)));
    await upload(store, "snp_2", kept);
    await store.delete({ organizationId: "org_a", id: "snp_1" }, SIGNAL);
    for (const nowMs of [1000, 2000, 1000 + HOUR_MS - 1]) assert.equal((await sweepAt(nowMs)).deletedChunks, 0);
    assert.equal((await filesBelow("chunks")).length, 3);
    const { deletedChunks, deletedBytes } = await sweepAt(1000 + HOUR_MS);
    assert.ok(deletedChunks === 1 && deletedBytes > CHUNK_BYTES);
    assert.equal((await filesBelow("chunks")).length, 2);
    assert.equal((await sweepAt(9 * HOUR_MS)).deletedChunks, 0);
    assert.ok((await readBack(openStore(), "snp_2")).equals(kept));
  });

  test("an upload that counts on chunks which are condemned meanwhile keeps them", async () => {
    const image = imageOf(randomBytes(CHUNK_BYTES), randomBytes(CHUNK_BYTES));
    await upload(openStore(), "snp_1", image);
    await openStore().delete({ organizationId: "org_a", id: "snp_1" }, SIGNAL);
    const store = openStore();
    const slow: SourceImage = {
      sizeBytes: image.length,
      async *pieces() {
        await sweepAt(1000, store);
        yield { offset: 0, bytes: image };
      },
    };
    const { sentBytes } = await store.upload({ organizationId: "org_a", id: "snp_2" }, headerFor(image), slow, SIGNAL);
    assert.ok(sentBytes < 10_000, "it counted on what was there");
    assert.equal((await sweepAt(1000 + HOUR_MS)).deletedChunks, 0);
    assert.ok((await readBack(openStore(), "snp_2")).equals(image));
  });

  test("an upload that takes longer than the grace keeps what it counts on and what it has sent, and succeeds", async () => {
    const [known, ...news] = Array.from({ length: 3 }, () => randomBytes(CHUNK_BYTES));
    assert.ok(known);
    const store = openStore();
    await upload(store, "snp_1", imageOf(known));
    await store.delete({ organizationId: "org_a", id: "snp_1" }, SIGNAL);
    const image = imageOf(known, ...news);
    const slow: SourceImage = {
      sizeBytes: image.length,
      async *pieces() {
        for (let index = 0; index < 3; index += 1) {
          const offset = index * CHUNK_BYTES;
          yield { offset, bytes: image.subarray(offset, offset + CHUNK_BYTES) };
          await sweepAt(1000 + index * 2 * HOUR_MS, store);
        }
        await sweepAt(1000 + 8 * HOUR_MS, store);
      },
    };
    const snapshot = { organizationId: "org_a", id: "snp_2" };
    const { sentBytes } = await store.upload(snapshot, headerFor(image), slow, SIGNAL);
    assert.ok(sentBytes < 2.1 * CHUNK_BYTES);
    assert.ok((await readBack(store, "snp_2")).equals(image));
    await store.delete(snapshot, SIGNAL);
    await sweepAt(1000 + 10 * HOUR_MS, store);
    assert.equal((await sweepAt(1000 + 12 * HOUR_MS, store)).deletedChunks, 3, "nothing counts on them any more");
  });

  test("an upload that begins later does not count on what is condemned, and a sweep that is late does it no harm", async () => {
    const image = imageOf(randomBytes(CHUNK_BYTES));
    await upload(openStore(), "snp_1", image);
    await openStore().delete({ organizationId: "org_a", id: "snp_1" }, SIGNAL);
    await sweepAt(1000);
    const [begun, late] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const lateSweep = sweepAt(
      1000 + HOUR_MS,
      openStore(key, {
        // It has looked at the manifests already when the upload begins.
        async delete(objectKey) {
          if (objectKey.startsWith("chunks/")) {
            begun.resolve();
            await late.promise;
          }
          await objects.delete(objectKey);
        },
      }),
    );
    await begun.promise;
    const { sentBytes } = await upload(openStore(), "snp_2", image);
    assert.ok(sentBytes > CHUNK_BYTES, "it was sent again, under another name");
    await sweepAt(1000 + HOUR_MS);
    late.resolve();
    await lateSweep;
    assert.ok((await readBack(openStore(), "snp_2")).equals(image));
    assert.equal((await filesBelow("chunks")).length, 1);
  });

  test("the grace begins when the list of what goes is written, not when the sweep began", async () => {
    await upload(openStore(), "snp_1", imageOf(randomBytes(CHUNK_BYTES)));
    await openStore().delete({ organizationId: "org_a", id: "snp_1" }, SIGNAL);
    let nowMs = 1000;
    const slow = openStore(key, {
      async *list(prefix) {
        yield* objects.list(prefix);
        if (prefix.startsWith("chunks/")) nowMs += HOUR_MS / 2;
      },
    });
    await slow.sweep("org_a", () => nowMs, SIGNAL);
    assert.equal((await sweepAt(1000 + HOUR_MS)).deletedChunks, 0);
    assert.equal((await sweepAt(1000 + 1.5 * HOUR_MS)).deletedChunks, 1);
  });

  test("a list from the future is taken as written now", async () => {
    await upload(openStore(), "snp_1", imageOf(randomBytes(CHUNK_BYTES)));
    await openStore().delete({ organizationId: "org_a", id: "snp_1" }, SIGNAL);
    await sweepAt(9000 * HOUR_MS);
    for (const nowMs of [1000, 1000 + HOUR_MS - 1]) assert.equal((await sweepAt(nowMs)).deletedChunks, 0);
    assert.equal((await sweepAt(1000 + HOUR_MS)).deletedChunks, 1);
  });

  test("a snapshot that is purged while a sweep looks at it is skipped", async () => {
    await upload(openStore(), "snp_1", imageOf(randomBytes(CHUNK_BYTES)));
    await upload(openStore(), "snp_2", imageOf(randomBytes(CHUNK_BYTES)));
    const purging = openStore(key, {
      async *list(prefix) {
        const found = await Array.fromAsync(objects.list(prefix));
        if (prefix.startsWith("manifests/")) await objects.delete("manifests/org_a/snp_1");
        yield* found;
      },
    });
    await sweepAt(1000, purging);
    assert.equal((await sweepAt(1000 + HOUR_MS)).deletedChunks, 1);
  });

  test("one list of what goes has no more than can be read again, and the rest waits for the next", async () => {
    const lists = new Map<string, Buffer>();
    const many = openStore(key, {
      async *list(prefix) {
        if (prefix.startsWith("chunks/"))
          for (let index = 0; index <= CONDEMNED_MAX; index += 1) yield { key: `${prefix}k/00/${index}`, sizeBytes: 1 };
        else yield* objects.list(prefix);
      },
      async put(objectKey, bytes) {
        if (objectKey.startsWith("condemned/")) lists.set(objectKey, Buffer.from(bytes));
        else await objects.put(objectKey, bytes);
      },
      get: async (objectKey, maxBytes) => lists.get(objectKey) ?? objects.get(objectKey, maxBytes),
      async delete(objectKey) {
        if (!objectKey.startsWith("chunks/")) await objects.delete(objectKey);
      },
    });
    await upload(openStore(), "snp_1", imageOf(textChunk()));
    await openStore().delete({ organizationId: "org_a", id: "snp_1" }, SIGNAL);
    await sweepAt(1000, many);
    assert.equal((await sweepAt(1000 + HOUR_MS, many)).deletedChunks, CONDEMNED_MAX);
  });

  test("a damaged list of what goes ends no upload and no sweep: nothing is counted on, and it is written anew", async () => {
    const image = imageOf(randomBytes(CHUNK_BYTES));
    await upload(openStore(), "snp_1", image);
    await openStore().delete({ organizationId: "org_a", id: "snp_1" }, SIGNAL);
    for (const bytes of ["nonsense", "", zstdCompressSync("{}")]) {
      await objects.put("condemned/org_a", Buffer.from(bytes));
      assert.ok((await upload(openStore(), "snp_2", image)).sentBytes > CHUNK_BYTES);
      assert.equal((await sweepAt(1000)).deletedChunks, 0);
    }
    assert.equal((await sweepAt(1000 + HOUR_MS)).deletedChunks, 3);
    assert.ok((await readBack(openStore(), "snp_2")).equals(image));
    await objects.put("condemned/org_a", Buffer.from("nonsense"));
    await sweepAt(1000);
    assert.ok((await upload(openStore(), "snp_2", image)).sentBytes < CHUNK_BYTES);
  });

  test("while a manifest cannot be read, nothing is deleted", async () => {
    await upload(openStore(), "snp_1", imageOf(randomBytes(CHUNK_BYTES)));
    await upload(openStore(), "snp_2", imageOf(randomBytes(CHUNK_BYTES)));
    await openStore().delete({ organizationId: "org_a", id: "snp_1" }, SIGNAL);
    await sweepAt(1000);
    const [manifest] = await filesBelow("manifests");
    assert.ok(manifest);
    const bytes = await readFile(manifest);
    await writeFile(manifest, bytes.subarray(0, -1));
    await assert.rejects(sweepAt(1000 + HOUR_MS), lost(/manifest is damaged/));
    assert.equal((await filesBelow("chunks")).length, 2);
    await writeFile(manifest, bytes);
    assert.equal((await sweepAt(1000 + HOUR_MS)).deletedChunks, 1);
  });
});

class FakeMemory implements StoreMemory {
  /** What `countReplicas` says. */
  replicaCount = 0;
  remembered: RememberedStore = { storeId: null, marks: [] };

  async get() {
    return this.remembered;
  }

  async remember(changes: Partial<RememberedStore>) {
    this.remembered = { ...this.remembered, ...changes };
  }

  async countReplicas() {
    return this.replicaCount;
  }
}

function bound(objects: ObjectStore): Partial<ObjectStore> {
  return {
    put: objects.put.bind(objects),
    get: objects.get.bind(objects),
    list: objects.list.bind(objects),
    delete: objects.delete.bind(objects),
  };
}

/** Of so many chunks. */
function part(index: number, count: number): ImagePart {
  return { offset: index * CHUNK_BYTES, length: count * CHUNK_BYTES };
}

function textChunk(): Buffer {
  return Buffer.alloc(CHUNK_BYTES, MARK);
}

function imageOf(...chunks: readonly Buffer[]): Buffer {
  return Buffer.concat(chunks);
}
