import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { pathToFileURL } from "node:url";
import { type ObjectStore, openObjectStore } from "@caisson/objects";
import { installationIdOf } from "./installations.ts";
import type { RememberedStore, StoreMemory } from "./store-memory.ts";
import { StoreOwnership } from "./store-ownership.ts";

const SIGNAL = new AbortController().signal;
const MINUTE_MS = 60_000;
const EMPTY = { code: "SNAPSHOT_STORE_UNAVAILABLE", message: /it is empty, although 3 snapshots are replicated/ };
const MAYBE_BACKUPS = { code: "SNAPSHOT_STORE_UNAVAILABLE", message: /the one that was used before may have backups/ };
const ANOTHER = { code: "SNAPSHOT_STORE_UNAVAILABLE", message: /it is another one, although 3 snapshots/ };
const COPY = { code: "SNAPSHOT_STORE_UNAVAILABLE", message: /has used it since .* copy of the data directory/ };
const BUSY = { code: "SNAPSHOT_STORE_UNAVAILABLE", message: /may be using it/ };

/** What one installation's database remembers. A copy of it goes its own way. */
class Memory implements StoreMemory {
  replicaCount = 0;
  remembered: RememberedStore = { storeId: null, marks: [] };

  get = async () => this.remembered;
  countReplicas = async () => this.replicaCount;

  async remember(changes: Partial<RememberedStore>) {
    this.remembered = { ...this.remembered, ...changes };
  }

  copy(): Memory {
    return Object.assign(new Memory(), { replicaCount: this.replicaCount, remembered: this.remembered });
  }
}

suite("whose a snapshot store is", () => {
  let parent: string;
  let directory: string;
  let objects: ObjectStore;
  let memory: Memory;
  const key = randomBytes(32);
  const runs: StoreOwnership[] = [];
  /** A start of a server. */
  const start = (over: Partial<{ memory: Memory; place: string; objects: ObjectStore }> = {}) => {
    const run = new StoreOwnership({ objects, memory, place: "here", installationKey: key, ...over });
    runs.push(run);
    return run;
  };
  const accept = (run: StoreOwnership, of = memory) => run.accept(SIGNAL, (accepted) => of.remember(accepted));
  const changed = (over: Partial<ObjectStore>): ObjectStore => ({
    url: objects.url,
    put: (objectKey, bytes) => objects.put(objectKey, bytes),
    get: (objectKey, maxBytes) => objects.get(objectKey, maxBytes),
    list: (prefix) => objects.list(prefix),
    delete: (objectKey) => objects.delete(objectKey),
    [Symbol.asyncDispose]: async () => undefined,
    ...over,
  });
  const namesIn = (folder: string) => readdir(join(directory, folder)).catch(() => []);

  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), "caisson-owner-"));
    directory = join(parent, "store");
    await mkdir(directory);
    objects = await openObjectStore({
      url: pathToFileURL(directory).href,
      ...{ endpoint: null, region: null, isPathStyle: false, authorityPath: null },
    });
    memory = new Memory();
  });
  afterEach(async () => {
    for (const run of runs.splice(0)) await run[Symbol.asyncDispose]();
    await rm(parent, { recursive: true });
  });

  test("an empty directory where the store was, as of a disk that is not mounted, is refused and nothing is written", async () => {
    const run = start();
    await run.requireOwn(SIGNAL);
    memory.replicaCount = 3;
    await run.requireOwn(SIGNAL);
    await rename(directory, join(parent, "disk"));
    await mkdir(directory);
    for (const one of [run, start()]) {
      await assert.rejects(one.requireOwn(SIGNAL), EMPTY);
      await assert.rejects(one.requireSame(SIGNAL), EMPTY);
    }
    assert.deepEqual(await readdir(directory), []);
    await rm(directory, { recursive: true });
    await rename(join(parent, "disk"), directory);
    await run.requireOwn(SIGNAL);
  });

  test("another store of the same installation is refused until an administrator accepts it, also while nothing is replicated", async () => {
    await start().requireOwn(SIGNAL);
    const first = memory.remembered.storeId;
    await rename(directory, join(parent, "first"));
    await mkdir(directory);
    await assert.rejects(start().requireOwn(SIGNAL), MAYBE_BACKUPS);
    assert.deepEqual(await readdir(directory), []);
    await accept(start());
    const second = memory.remembered.storeId;
    assert.ok(first !== null && second !== null && first !== second);
    memory.replicaCount = 3;
    await rename(directory, join(parent, "second"));
    await rename(join(parent, "first"), directory);
    const run = start();
    await assert.rejects(run.requireOwn(SIGNAL), ANOTHER);
    await assert.rejects(run.requireSame(SIGNAL), ANOTHER);
    await accept(run);
    assert.equal(memory.remembered.storeId, first);
    await run.requireOwn(SIGNAL);
    await start().requireOwn(SIGNAL);
  });

  test("a store that an older version has made is taken as it is", async () => {
    await objects.put(`installations/${installationIdOf(key)}`, Buffer.from("{}"));
    memory.replicaCount = 3;
    await start().requireSame(SIGNAL);
    await start().requireOwn(SIGNAL);
    assert.deepEqual(await namesIn("stores"), [memory.remembered.storeId]);
  });

  test("a copy of the installation is refused while the original runs, and the original when the copy has used the store", async (t) => {
    t.mock.timers.enable({ apis: ["setInterval"] });
    const original = start();
    await original.requireOwn(SIGNAL);
    const copied = memory.copy();
    let nowMs = 0;
    t.mock.method(performance, "now", () => nowMs);
    const copy = start({ memory: copied, place: "there" });
    await assert.rejects(copy.requireOwn(SIGNAL), BUSY);
    for (; nowMs < 30 * MINUTE_MS; nowMs += MINUTE_MS) {
      const [mark] = await namesIn("owners");
      const before = await objects.get(`owners/${mark}`, 4096);
      t.mock.timers.tick(MINUTE_MS);
      while ((await objects.get(`owners/${mark}`, 4096))?.equals(before ?? Buffer.alloc(0)))
        await new Promise(setImmediate);
      await assert.rejects(copy.requireOwn(SIGNAL), BUSY);
      await original.requireOwn(SIGNAL);
    }
    await original[Symbol.asyncDispose]();
    await copy.requireOwn(SIGNAL);
    await assert.rejects(start().requireOwn(SIGNAL), COPY);
    await start().requireSame(SIGNAL);
    const back = start();
    await accept(back);
    await back.requireOwn(SIGNAL);
    await assert.rejects(copy.requireOwn(SIGNAL), COPY);
    await assert.rejects(start({ memory: copied, place: "there" }).requireOwn(SIGNAL), COPY);
    assert.equal((await namesIn("owners")).length, 1);
  });

  test("a run that was killed is replaced at once where it was, and elsewhere when it has been silent", async (t) => {
    await start().requireOwn(SIGNAL);
    await start().requireOwn(SIGNAL);
    t.mock.timers.enable({ apis: ["setInterval"] });
    let nowMs = 0;
    t.mock.method(performance, "now", () => nowMs);
    const elsewhere = start({ place: "there" });
    await assert.rejects(elsewhere.requireOwn(SIGNAL), BUSY);
    nowMs += 2 * MINUTE_MS;
    await assert.rejects(elsewhere.requireOwn(SIGNAL), BUSY);
    nowMs += 2 * MINUTE_MS;
    await elsewhere.requireOwn(SIGNAL);
    assert.equal((await namesIn("owners")).length, 1);
  });

  test("a kill between the mark and what is remembered of it locks nobody out", async () => {
    await start().requireOwn(SIGNAL);
    const killed = changed({ delete: () => Promise.reject(new Error("killed")) });
    await assert.rejects(start({ objects: killed }).requireOwn(SIGNAL), { message: "killed" });
    assert.equal((await namesIn("owners")).length, 2);
    await start().requireOwn(SIGNAL);
    assert.deepEqual(await namesIn("owners"), memory.remembered.marks);
  });

  test("a server that is cut off while it accepts a store takes nothing for replicated that is not there", async () => {
    await start().requireOwn(SIGNAL);
    memory.replicaCount = 3;
    await rename(directory, join(parent, "first"));
    await mkdir(directory);
    const failing = start().accept(SIGNAL, () => Promise.reject(new Error("the database is away")));
    await assert.rejects(failing, { message: "the database is away" });
    assert.deepEqual(await namesIn("owners"), []);
    await assert.rejects(start().requireOwn(SIGNAL), ANOTHER);
    const killed = changed({
      put: (objectKey, bytes) =>
        objectKey.startsWith("owners/") ? Promise.reject(new Error("killed")) : objects.put(objectKey, bytes),
    });
    await assert.rejects(accept(start({ objects: killed })), { message: "killed" });
    assert.deepEqual(await namesIn("stores"), [memory.remembered.storeId], "it is committed before the mark");
    await start().requireOwn(SIGNAL);
  });

  test("a mark that comes back while another server accepts the store refuses both, until one of them is accepted", async () => {
    const original = start();
    await original.requireOwn(SIGNAL);
    const [mark] = memory.remembered.marks;
    const beat = await objects.get(`owners/${mark}`, 4096);
    assert.ok(beat);
    const copied = memory.copy();
    const copy = start({ memory: copied, place: "there" });
    await accept(copy, copied);
    await copy.requireOwn(SIGNAL);
    // As by a beat that had found its mark just before.
    await objects.put(`owners/${mark}`, beat);
    for (const run of [original, copy]) await assert.rejects(run.requireOwn(SIGNAL), COPY);
    await accept(copy, copied);
    await copy.requireOwn(SIGNAL);
    await assert.rejects(original.requireOwn(SIGNAL), COPY);
  });

  test("a mark that cannot be read is of a server that may run, until it has been silent", async (t) => {
    await start().requireOwn(SIGNAL);
    const [mark] = memory.remembered.marks;
    t.mock.timers.enable({ apis: ["setInterval"] });
    let nowMs = 0;
    t.mock.method(performance, "now", () => nowMs);
    const next = start();
    for (const text of ["", "null", '{"place":"here"}', '{"place":"he']) {
      await objects.put(`owners/${mark}`, Buffer.from(text));
      await assert.rejects(next.requireOwn(SIGNAL), BUSY);
    }
    nowMs += 4 * MINUTE_MS;
    await next.requireOwn(SIGNAL);
    assert.deepEqual(await namesIn("owners"), memory.remembered.marks);
  });

  test("a look says what a use would, and takes the store from nobody", async () => {
    await start().requireFree(SIGNAL);
    assert.deepEqual(await readdir(directory), []);
    const original = start();
    await original.requireOwn(SIGNAL);
    const copy = start({ memory: memory.copy(), place: "there" });
    await assert.rejects(copy.requireFree(SIGNAL), BUSY);
    await original[Symbol.asyncDispose]();
    await copy.requireFree(SIGNAL);
    await start().requireOwn(SIGNAL);
    await assert.rejects(copy.requireFree(SIGNAL), COPY);
  });

  test("of two that claim at once at most one has it, whatever the order", async () => {
    for (let round = 0; round < 10; round += 1) {
      const memories = [memory.copy(), memory.copy()];
      const claims = await Promise.allSettled(
        memories.map((one, index) => start({ memory: one, place: `place ${index}` }).requireOwn(SIGNAL)),
      );
      const count = claims.filter(({ status }) => status === "fulfilled").length;
      assert.ok(count <= 1, `${count} have it`);
      assert.equal((await namesIn("owners")).length, count);
      await rm(directory, { recursive: true });
      await mkdir(directory);
    }
  });
});
