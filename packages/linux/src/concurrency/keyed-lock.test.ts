import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { KeyedLock } from "./keyed-lock.ts";

suite("keyed lock", () => {
  test("work on one key runs one after the other in order, also after a failure", async () => {
    const lock = new KeyedLock();
    const log: string[] = [];
    const work = (name: string, fails = false) =>
      lock.run("key", async () => {
        log.push(`${name} begins`);
        await new Promise(setImmediate);
        log.push(`${name} ends`);
        if (fails) throw new Error(name);
        return name;
      });
    const results = await Promise.allSettled([work("a"), work("b", true), work("c")]);
    assert.deepEqual(log, ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]);
    assert.deepEqual(
      results.map((result) => result.status),
      ["fulfilled", "rejected", "fulfilled"],
    );
  });

  test("different keys do not wait for each other", async () => {
    const lock = new KeyedLock();
    const { promise, resolve } = Promise.withResolvers<void>();
    const first = lock.run("a", () => promise);
    await lock.run("b", async () => {});
    resolve();
    await first;
  });
});
