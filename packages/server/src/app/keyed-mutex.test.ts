import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { KeyedMutex } from "./keyed-mutex.ts";

suite("keyed mutex", () => {
  test("work on one key runs one after the other in order, also after a failure", async () => {
    const mutex = new KeyedMutex();
    const log: string[] = [];
    const work = (name: string, fails = false) =>
      mutex.run("key", async () => {
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
    const mutex = new KeyedMutex();
    const { promise, resolve } = Promise.withResolvers<void>();
    const first = mutex.run("a", () => promise);
    await mutex.run("b", async () => {});
    resolve();
    await first;
  });
});
