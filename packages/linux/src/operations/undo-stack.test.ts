import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { UndoStack } from "./undo-stack.ts";

suite("undo stack", () => {
  test("undoes in the opposite order, once", async () => {
    const order: number[] = [];
    const stack = new UndoStack();
    for (const number of [1, 2, 3]) stack.defer(async () => void order.push(number));
    await stack[Symbol.asyncDispose]();
    await stack[Symbol.asyncDispose]();
    assert.deepEqual(order, [3, 2, 1]);
  });

  test("stops at a failure, keeps what lies below, and continues there", async () => {
    const order: string[] = [];
    let isBusy = true;
    const stack = new UndoStack();
    stack.defer(async () => void order.push("directory"));
    stack.defer(async () => {
      if (isBusy) throw new Error("busy");
      order.push("mount");
    });
    stack.defer(async () => void order.push("processes"));
    await assert.rejects(async () => stack[Symbol.asyncDispose](), /busy/);
    assert.deepEqual(order, ["processes"]);
    isBusy = false;
    await stack[Symbol.asyncDispose]();
    assert.deepEqual(order, ["processes", "mount", "directory"]);
  });

  test("what was moved is undone by the new owner alone", async () => {
    let count = 0;
    const first = new UndoStack();
    first.defer(async () => {
      count += 1;
    });
    const second = first.move();
    await first[Symbol.asyncDispose]();
    assert.equal(count, 0);
    await second[Symbol.asyncDispose]();
    assert.equal(count, 1);
  });
});
