import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { LogSync } from "./log-sync.ts";

suite("commits go to stable storage", () => {
  let directory: string;
  let path: string;
  let commits: number;
  /** Turns of the disk that have begun, oldest first. */
  let turns: PromiseWithResolvers<void>[];
  let failures: unknown[];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-log-"));
    path = join(directory, "log");
    await writeFile(path, "");
    commits = 0;
    turns = [];
    failures = [];
  });
  afterEach(() => rm(directory, { recursive: true }));

  const open = (): LogSync =>
    new LogSync(path, {
      commits: () => commits,
      sync: () => {
        const turn = Promise.withResolvers<void>();
        turns.push(turn);
        return turn.promise;
      },
      fail: (error) => failures.push(error),
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

  test("the thread writes real files, and tells what it could not", async () => {
    await using log = new LogSync(path, { commits: () => commits });
    const calls = callsOf(log);
    assert.equal(await calls.write("one"), "one");
    assert.deepEqual(await Promise.all([calls.write("two"), calls.write("three")]), ["two", "three"]);
    const failed: unknown[] = [];
    // The kernel syncs no such file.
    const other = new LogSync("/proc/self/status", { commits: () => commits, fail: (error) => failed.push(error) });
    await callsOf(other).write("four");
    assert.match(String(failed[0]), /EINVAL/);
  });
});
