import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { settleAll } from "./settle-all.ts";

const failed = (code: string, message: string) => Object.assign(new Error(message), { code });

suite("settle all", () => {
  test("gives the values in order", async () => {
    assert.deepEqual(await settleAll([Promise.resolve(1), Promise.resolve("two")]), [1, "two"]);
  });

  test("a failure is thrown as it is, and only when the others are done", async () => {
    const failure = new Error("broken");
    let isDone = false;
    const slow = new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
      isDone = true;
    });
    await assert.rejects(settleAll([Promise.reject(failure), slow]), (error) => error === failure);
    assert.equal(isDone, true);
  });

  test("several failures are all named", async () => {
    await assert.rejects(settleAll([Promise.reject(new Error("one")), Promise.reject(new Error("two"))]), /one; .*two/);
    const [full, busy] = [failed("ENOSPC", "one"), failed("EBUSY", "two")];
    await assert.rejects(settleAll([Promise.reject(full), Promise.reject(busy)]), { errors: [full, busy] });
  });

  test("of several failures with one code the first is thrown, so that callers know the code", async () => {
    const [first, second] = [failed("ENOSPC", "one"), failed("ENOSPC", "two")];
    const work = [Promise.reject(first), Promise.resolve(), Promise.reject(second)];
    await assert.rejects(settleAll(work), (error) => error === first);
  });
});
