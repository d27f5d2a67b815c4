import assert from "node:assert/strict";
import { test } from "node:test";
import { ByteBudget } from "./byte-budget.ts";

const never = new AbortController().signal;

test("what is taken waits for what is given back, in the order in which it was asked for", async () => {
  const budget = new ByteBudget(10);
  const first = await budget.take(8, never);
  const order: string[] = [];
  const second = budget.take(6, never).then(() => order.push("second"));
  const third = budget.take(2, never).then(() => order.push("third"));
  await Promise.resolve();
  assert.deepEqual(order, [], "a small one does not pass a larger one by");
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  await Promise.all([second, third]);
  assert.deepEqual(order, ["second", "third"]);
});

test("one that gives up holds nothing and holds nobody up", async () => {
  const budget = new ByteBudget(10);
  using _first = await budget.take(6, never);
  const controller = new AbortController();
  const large = budget.take(8, controller.signal);
  const small = budget.take(4, never);
  controller.abort(new Error("enough"));
  await assert.rejects(large, /enough/);
  using _small = await small;
});
