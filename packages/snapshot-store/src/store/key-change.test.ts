import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { pathToFileURL } from "node:url";
import { type ObjectStore, openObjectStore } from "@caisson/objects";
import { headerFor, sourceOf } from "../../testing/index.ts";
import type { InstallationKeys } from "./organization-keys.ts";
import { SnapshotStore } from "./snapshot-store.ts";
import type { RememberedStore, StoreMemory } from "./store-memory.ts";

const SIGNAL = new AbortController().signal;
const ORGANIZATIONS = ["org_a", "org_b", "org_c"];

/** What the installation knows: which keys it has, and which store. */
class Installation implements StoreMemory {
  key: Buffer = randomBytes(32);
  next: Buffer | null = null;
  remembered: RememberedStore = { storeId: null, marks: [] };

  get = async () => this.remembered;
  countReplicas = async () => 0;

  async remember(changes: Partial<RememberedStore>) {
    this.remembered = { ...this.remembered, ...changes };
  }
}

suite("the installation's key is changed", () => {
  let directory: string;
  let objects: ObjectStore;
  let installation: Installation;

  /** A run of the server; `over` changes what the store of objects does. */
  const start = (over: Partial<ObjectStore> = {}, keys?: InstallationKeys): SnapshotStore =>
    new SnapshotStore({
      ...{ objects: changed(objects, over), memory: installation, place: "here", bytesPerSecond: null, graceMs: 1000 },
      installationKeys: async () => keys ?? { current: installation.key, next: installation.next },
    });
  const startWith = (key: Buffer) => start({}, { current: key, next: null });
  const rotate = (store: SnapshotStore, next: Buffer) => {
    const commit = async () => void Object.assign(installation, { next });
    return store.prepareKey(next, commit, SIGNAL);
  };
  const finish = (store: SnapshotStore, next: Buffer) => {
    const commit = async () => void Object.assign(installation, { key: next, next: null });
    return store.changeKey(next, commit, SIGNAL);
  };
  const change = async (store: SnapshotStore, next: Buffer) => {
    await rotate(store, next);
    return finish(store, next);
  };
  const upload = (store: SnapshotStore, organizationId: string, id: string, text: string) => {
    const image = Buffer.alloc(4096, text);
    return store.upload({ organizationId, id }, headerFor(image), sourceOf(image), SIGNAL);
  };
  const read = async (store: SnapshotStore, organizationId: string, id: string) => {
    const { chunks } = await store.open({ organizationId, id }, SIGNAL);
    return Buffer.concat(await Array.fromAsync(chunks(), ({ bytes }) => bytes)).toString("latin1", 0, 4);
  };
  const readAll = async (store: SnapshotStore) => {
    for (const organizationId of ORGANIZATIONS) assert.equal(await read(store, organizationId, "snp_1"), "old ");
  };
  const keyFiles = async () =>
    (
      await Promise.all(
        ["keys", "key-copies"].map(async (folder) =>
          (
            await readdir(join(directory, folder), { recursive: true, withFileTypes: true })
          )
            .filter((entry) => entry.isFile())
            .map((entry) => join(entry.parentPath, entry.name)),
        ),
      )
    ).flat();
  const sizes = async () =>
    new Set((await Promise.all((await keyFiles()).map((p) => readFile(p)))).map((b) => b.length));

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-key-change-"));
    objects = await openObjectStore({
      url: pathToFileURL(directory).href,
      ...{ endpoint: null, region: null, isPathStyle: false, authorityPath: null },
    });
    installation = new Installation();
    const store = start();
    for (const organizationId of ORGANIZATIONS) await upload(store, organizationId, "snp_1", "old ");
  });
  afterEach(() => rm(directory, { recursive: true }));

  test("everything opens with the new key, nothing with the former one, and no chunk is written anew", async () => {
    const [former, next] = [installation.key, randomBytes(32)];
    const chunks = () => readdir(join(directory, "chunks"), { recursive: true });
    const before = await chunks();
    const store = start();
    assert.equal(await store.countKeys(SIGNAL), 3);
    assert.equal(await change(store, next), 3);
    assert.deepEqual(await chunks(), before);
    assert.deepEqual(await sizes(), new Set([61]), "one wrap in each object");
    await readAll(store);
    await readAll(start());
    await upload(store, "org_a", "snp_2", "new ");
    await upload(start(), "org_d", "snp_2", "new ");
    const replaced = { code: "SNAPSHOT_STORE_UNAVAILABLE", message: /newer installation key: `caisson keys rotate`/ };
    for (const id of ["snp_1", "snp_2"]) await assert.rejects(read(startWith(former), "org_a", id), replaced);
    await assert.rejects(startWith(former).countKeys(SIGNAL), {
      message: /is a former one, which `caisson keys rotate`/,
    });
    await assert.rejects(startWith(randomBytes(32)).countKeys(SIGNAL), { message: /does not fit it/ });
    assert.equal(await change(start(), randomBytes(32)), 4, "and once more");
    await assert.rejects(read(startWith(former), "org_a", "snp_1"), replaced);
  });

  test("until its finish both keys open everything, also what is written after a restart and by a server that has the former one alone", async () => {
    const [former, next] = [installation.key, randomBytes(32)];
    assert.equal(await rotate(start(), next), 3);
    assert.equal(await rotate(start(), next), 3, "again is success");
    await upload(start(), "org_d", "snp_1", "old ");
    const lacking = start({}, { current: former, next: "absent" });
    await upload(lacking, "org_a", "snp_2", "more");
    await assert.rejects(upload(lacking, "org_e", "snp_1", "old "), {
      message: /make a key for org_e .* `caisson keys export --new` printed into keys\/installation\.key\.next/,
    });
    for (const key of [former, next]) {
      await readAll(startWith(key));
      assert.equal(await read(startWith(key), "org_d", "snp_1"), "old ");
      assert.equal(await read(startWith(key), "org_a", "snp_2"), "more");
    }
    assert.deepEqual(await sizes(), new Set([122]));
    assert.equal(await finish(start(), next), 4);
    assert.deepEqual(await sizes(), new Set([61]));
    await readAll(start());
    await assert.rejects(startWith(former).countKeys(SIGNAL), { message: /is a former one/ });
  });

  test("what a server that knows of no rotation has written meanwhile opens with the new key after the finish", async () => {
    const [former, next] = [installation.key, randomBytes(32)];
    await rotate(start(), next);
    const ignorant = startWith(former);
    await upload(ignorant, "org_d", "snp_1", "old ");
    await upload(ignorant, "org_a", "snp_2", "more");
    await finish(start(), next);
    await readAll(startWith(next));
    assert.equal(await read(startWith(next), "org_d", "snp_1"), "old ");
  });

  test("a store with two keys is told from one with one", async () => {
    const [former, next] = [installation.key, randomBytes(32)];
    assert.equal(await start().isMadeWithOthers(former, SIGNAL), false);
    await rotate(start(), next);
    for (const key of [former, next]) assert.equal(await start().isMadeWithOthers(key, SIGNAL), true);
    await finish(start(), next);
    assert.equal(await start().isMadeWithOthers(next, SIGNAL), false);
  });

  test("cut off before any of its writes, the key of the moment opens everything, and the next try ends it", async () => {
    const origin = await mkdtemp(join(tmpdir(), "caisson-key-change-"));
    try {
      await cp(directory, origin, { recursive: true });
      const before = { ...installation };
      const former = before.key;
      let isDone = false;
      let [beforeCommit, waiting, afterCommit] = [0, 0, 0];
      for (let writes = 0; !isDone; writes += 1) {
        await rm(directory, { recursive: true });
        await cp(origin, directory, { recursive: true });
        Object.assign(installation, before);
        const next = randomBytes(32);
        isDone = await change(start(dyingAfter(objects, writes)), next).then(
          () => true,
          () => false,
        );
        if (installation.next !== null) waiting += 1;
        else if (installation.key === former) beforeCommit += 1;
        else afterCommit += 1;
        await readAll(start());
        if (installation.next !== null) for (const key of [former, next]) await readAll(startWith(key));
        // An upload before the next try makes keys as they were, or are to be.
        await upload(start(), "org_d", "snp_2", "late");
        const store = start();
        if (installation.key === former) await change(store, next);
        else await store.finishKeyChange(SIGNAL);
        await readAll(start());
        assert.equal(await read(start(), "org_d", "snp_2"), "late");
        assert.deepEqual(await sizes(), new Set([61]));
        await assert.rejects(startWith(former).countKeys(SIGNAL), { message: /is a former one/ });
      }
      const told = `${beforeCommit} before it waits, ${waiting} while it waits, ${afterCommit} after its finish`;
      assert.ok(beforeCommit > 6 && waiting > 0 && afterCommit > 6, told);
    } finally {
      await rm(origin, { recursive: true });
    }
  });

  test("given up half-way for another new key, only the last one is good", async () => {
    await assert.rejects(
      start().prepareKey(randomBytes(32), () => Promise.reject(new Error("the database is away")), SIGNAL),
      { message: "the database is away" },
    );
    assert.deepEqual(await sizes(), new Set([122]), "both open everything");
    await readAll(start());
    await change(start(), randomBytes(32));
    await readAll(start());
    assert.equal((await readdir(join(directory, "installations"))).length, 1);
  });

  test("uploads go on meanwhile, also of organizations that are new, and each is read with the new key", async () => {
    const reached = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    let isFirst = true;
    const store = start({
      async put(key, bytes) {
        await objects.put(key, bytes);
        // Of one organization: nothing else is written for that one until its key is wrapped anew.
        if (!key.startsWith("keys/org_a/") || !isFirst) return;
        isFirst = false;
        reached.resolve();
        await goOn.promise;
      },
    });
    const changing = change(store, randomBytes(32));
    await reached.promise;
    await upload(store, "org_new", "snp_2", "new ");
    await upload(store, "org_c", "snp_2", "more");
    goOn.resolve();
    await changing;
    assert.deepEqual(await sizes(), new Set([61]));
    const later = start();
    await readAll(later);
    assert.equal(await read(later, "org_new", "snp_2"), "new ");
    assert.equal(await read(later, "org_c", "snp_2"), "more");
  });

  test("a key that opens with neither keeps the key from being changed, and one that was taken out meanwhile does not", async () => {
    const former = installation.key;
    const [one] = await keyFiles();
    assert.ok(one);
    const copy = one.replace("/keys/", "/key-copies/");
    const whole = await readFile(one);
    const running = start();
    await readAll(running);
    for (const path of [one, copy]) await writeFile(path, "spoilt");
    await assert.rejects(running.countKeys(SIGNAL), { message: /it is damaged/ }, "not what the server remembers");
    await assert.rejects(change(start(), randomBytes(32)), {
      message: /nor its copy: it is damaged there\. Put one/,
    });
    assert.equal(installation.key, former);
    await writeFile(copy, whole);
    const store = start({
      async *list(prefix) {
        yield* objects.list(prefix);
        if (prefix === "keys/") for (const path of [one, copy]) await rm(path, { force: true });
      },
    });
    assert.equal(await change(store, randomBytes(32)), 2);
  });

  test("a store that does not give back what it was given ends it before the key is another one", async () => {
    const former = installation.key;
    const store = start({
      put: async (key, bytes) => {
        if (!key.startsWith("key-copies/")) await objects.put(key, bytes);
      },
    });
    await assert.rejects(change(store, randomBytes(32)), { message: /does not give back the keys/ });
    assert.equal(installation.key, former);
    await readAll(start());
  });
});

function changed(objects: ObjectStore, over: Partial<ObjectStore>): ObjectStore {
  return {
    url: objects.url,
    put: (key, bytes, signal) => objects.put(key, bytes, signal),
    get: (key, maxBytes, signal) => objects.get(key, maxBytes, signal),
    list: (prefix, signal) => objects.list(prefix, signal),
    delete: (key, signal) => objects.delete(key, signal),
    [Symbol.asyncDispose]: async () => undefined,
    ...over,
  };
}

/** Fails every change after so many, as a process that has died makes none. Its mark in the store does not count. */
function dyingAfter(objects: ObjectStore, count: number): Partial<ObjectStore> {
  let left = count;
  const spend = (key: string) => {
    if (key.startsWith("owners/")) return;
    left -= 1;
    if (left < 0) throw new Error("it died");
  };
  return {
    async put(key, bytes) {
      spend(key);
      await objects.put(key, bytes);
    },
    async delete(key) {
      spend(key);
      await objects.delete(key);
    },
  };
}
