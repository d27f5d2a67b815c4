import assert from "node:assert/strict";
import { test } from "node:test";
import { Evictables } from "./evictables.ts";

const LOGGER = { debug() {}, info() {}, warn() {}, error() {} };

test("what can be made again is evicted in order, as much as is wanted, and a failure keeps nobody else", async () => {
  const pool = { freeBytes: 120 };
  const capacity = async () => {
    const { freeBytes } = pool;
    const own = { totalBytes: 1000, headroomBytes: 100, freeBytes, availableBytes: Math.max(0, freeBytes - 100) };
    return { ...own, disks: [{ ...own, directory: "/pool", problem: null }] };
  };
  const evictables = new Evictables();
  const asked: [string, number][] = [];
  const add = (name: string, frees: number | Error) =>
    evictables.register({
      name,
      async evict(bytes) {
        asked.push([name, bytes]);
        if (frees instanceof Error) throw frees;
        pool.freeBytes += frees;
      },
    });
  add("broken", new Error("broken"));
  add("small", 30);
  add("large", 500);
  add("last", 500);
  await evictables.evict({ capacity }, LOGGER);
  assert.deepEqual(asked, [
    ["broken", 80],
    ["small", 80],
    ["large", 50],
  ]);
});
