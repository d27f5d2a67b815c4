import assert from "node:assert/strict";
import { mkdtemp, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, suite, test } from "node:test";
import { SAMPLE_OWNER, sampleNode } from "../../testing/samples.ts";
import { LogSync } from "./log-sync.ts";
import { openSqliteStore } from "./sqlite-store.ts";

suite("commits go to stable storage", () => {
  let directory: string;
  let path: string;
  let commits: number;
  /** Turns of the disk that have begun, oldest first. */
  let turns: PromiseWithResolvers<void>[];
  let failures: unknown[];
  /** How many commits of any kind there have been. */
  let logged: number;
  /** Times that the log was moved. */
  let moves: PromiseWithResolvers<void>[];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-log-"));
    path = join(directory, "store.db");
    await writeFile(`${path}-wal`, "");
    commits = 0;
    logged = 0;
    turns = [];
    moves = [];
    failures = [];
  });
  afterEach(() => rm(directory, { recursive: true }));

  const open = (): LogSync =>
    new LogSync(path, {
      commits: () => commits,
      logged: () => logged,
      commitsPerMove: 10,
      work: ({ kind }) => {
        const turn = Promise.withResolvers<void>();
        (kind === "sync" ? turns : moves).push(turn);
        return turn.promise;
      },
      fail: (error) => failures.push(error),
      onMoveFailure: (error) => failures.push(error),
    });
  const callsOf = (log: LogSync) =>
    log.durable({
      async write(name: string) {
        commits += 1;
        return name;
      },
      async read() {
        return commits;
      },
      async writeAndThrow(): Promise<void> {
        commits += 1;
        throw new Error("refused");
      },
    });
  /** Whether it has an answer, when all that can go on has. */
  const isAnswered = async (work: Promise<unknown>): Promise<boolean> => {
    const later = new Promise((resolve) => setTimeout(resolve, 20, "later"));
    return (await Promise.race([work.catch(() => undefined), later])) !== "later";
  };

  test("an answer waits for the disk, a read for what it may have seen, and one that is written meanwhile for the next turn", async () => {
    const calls = callsOf(open());
    assert.equal(await calls.read(), 0);
    const first = calls.write("first");
    assert.equal(await isAnswered(first), false);
    const meanwhile = [calls.write("second"), calls.write("third"), calls.read()];
    assert.equal(await isAnswered(Promise.race(meanwhile)), false);
    assert.equal(turns.length, 1);
    turns[0]?.resolve();
    assert.equal(await first, "first");
    assert.equal(await isAnswered(Promise.race(meanwhile)), false, "their turn is the next one, for all three");
    assert.equal(turns.length, 2);
    turns[1]?.resolve();
    assert.deepEqual(await Promise.all(meanwhile), ["second", "third", 3]);
    assert.equal(await calls.read(), 3);
    assert.equal(turns.length, 2);
  });

  test("what fails after it has committed is told when the commit lasts", async () => {
    const calls = callsOf(open());
    const refused = calls.writeAndThrow();
    assert.equal(await isAnswered(refused), false);
    turns[0]?.resolve();
    await assert.rejects(refused, /refused/);
  });

  test("the end waits for what nobody waits for", async () => {
    const log = open();
    commits += 1;
    const end = log[Symbol.asyncDispose]();
    assert.equal(await isAnswered(end), false);
    turns[0]?.resolve();
    await end;
  });

  test("a disk that does not take it ends the process, and nobody is told that it lasts", async () => {
    const calls = callsOf(open());
    const written = calls.write("lost");
    assert.equal(await isAnswered(written), false);
    const error = new Error("EIO");
    turns[0]?.reject(error);
    await written;
    assert.deepEqual(failures, [error]);
  });

  test("after some commits of any kind the log is moved, which nobody but the end waits for, and a try that failed is made again after as many", async () => {
    const log = open();
    const calls = callsOf(log);
    logged = 9;
    await calls.read();
    assert.equal(moves.length, 0);
    logged = 10;
    assert.equal(await isAnswered(calls.read()), true);
    logged = 25;
    await calls.read();
    assert.equal(moves.length, 1, "one at a time");
    const error = new Error("ENOSPC");
    moves[0]?.reject(error);
    await isAnswered(Promise.resolve());
    assert.deepEqual(failures, [error], "who watches is told");
    await calls.read();
    assert.equal(moves.length, 2);
    const end = log[Symbol.asyncDispose]();
    assert.equal(await isAnswered(end), false);
    moves[1]?.resolve();
    await end;
  });

  test("a log of a real database is moved, so that it is written from its start again", async () => {
    const store = openSqliteStore(path, { commitsPerMove: 20 });
    try {
      await store.nodes.begin(sampleNode(), 60_000);
      const untilMs = Date.now() + 60_000;
      // Each of these makes the log longer by a page, unless it has begun again.
      for (let index = 0, size = 0, still = 0; still < 50; index += 1) {
        assert.ok(Date.now() < untilMs, "the log only grows");
        await store.nodes.renew(SAMPLE_OWNER, 60_000, { ord: index });
        const before = size;
        size = (await stat(`${path}-wal`)).size;
        still = size === before ? still + 1 : 0;
      }
    } finally {
      await store.close();
    }
  });

  test("a long log that another program keeps from being moved is told, and is moved when that has read", async () => {
    const told: unknown[] = [];
    const store = openSqliteStore(path, { commitsPerMove: 1, onMoveFailure: (error) => told.push(error) });
    const [reader, writer] = [new DatabaseSync(path), new DatabaseSync(path)];
    let round = 0;
    const renew = async () => {
      assert.ok(++round < 10_000, "nobody is told, or the log only grows");
      await store.nodes.renew(SAMPLE_OWNER, 60_000, { ord: round });
      return (await stat(`${path}-wal`)).size;
    };
    try {
      await store.nodes.begin(sampleNode(), 60_000);
      reader.exec("BEGIN; SELECT count(*) FROM nodes");
      writer.exec("PRAGMA wal_autocheckpoint = 0; CREATE TABLE other AS SELECT zeroblob(70000000) AS bytes");
      while (told.length === 0) await renew();
      assert.match(String(told[0]), /another program has been reading the database for long, which keeps 1\d{4} pages/);
      reader.exec("COMMIT");
      for (let before = 0, size = await renew(); size !== before; ) [before, size] = [size, await renew()];
    } finally {
      reader.close();
      writer.close();
      await store.close();
    }
  });

  test("the thread writes real files, and tells what it could not", async () => {
    await using log = new LogSync(path, { commits: () => commits, logged: () => commits });
    const calls = callsOf(log);
    assert.equal(await calls.write("one"), "one");
    assert.deepEqual(await Promise.all([calls.write("two"), calls.write("three")]), ["two", "three"]);
    const failed: unknown[] = [];
    // The kernel syncs no such file.
    await symlink("/proc/self/status", join(directory, "odd-wal"));
    const counts = { commits: () => commits, logged: () => commits };
    const other = new LogSync(join(directory, "odd"), { ...counts, fail: (error) => failed.push(error) });
    await callsOf(other).write("four");
    assert.match(String(failed[0]), /EINVAL/);
  });
});
