import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { HostShares } from "./host-shares.ts";

suite("shares of what the host has", () => {
  test("the first sandboxes get what they want, every one gets its guarantee, and together never more than there is", () => {
    const shares = new HostShares(28_672, 250);
    const counts = Array.from({ length: 250 }, () => shares.take(1024).count);
    assert.equal(counts[0], 1024);
    assert.ok(counts.every((count) => count >= shares.guaranteed && shares.guaranteed === 57));
    assert.ok(counts.reduce((sum, count) => sum + count, 0) <= 28_672);
  });

  test("a sandbox that wants less than its guarantee gets just that, and takes nothing from others", () => {
    const shares = new HostShares(28_672, 250);
    for (let index = 0; index < 250; index += 1) assert.equal(shares.take(50).count, 50);
    assert.equal(shares.take(1024).count, 1024);
  });

  test("what is given back, once or twice, is there once for the next", () => {
    const shares = new HostShares(1000, 10);
    const first = shares.take(1000);
    assert.equal(first.count, 112);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    assert.equal(shares.take(1000).count, 112);
    assert.equal(shares.take(1000).count, 104);
  });
});
