import assert from "node:assert/strict";
import { test } from "node:test";
import { AddressLimits } from "./address-limits.ts";
import { FAILURES_BURST, STRANGERS_MAX, STRANGERS_PER_ADDRESS_MAX } from "./limits.ts";

test("an address that fails too often is refused until time has passed, and another one is not", () => {
  let nowMs = 0;
  const limits = new AddressLimits(() => nowMs);
  for (let count = 0; count < FAILURES_BURST; count += 1) limits.enter("192.0.2.1")?.(false);
  assert.equal(limits.enter("192.0.2.1"), null);
  assert.equal(limits.enter("::ffff:192.0.2.1"), null, "the same address, written in another way");
  assert.notEqual(limits.enter("192.0.2.2"), null);
  nowMs += 2_000;
  assert.notEqual(limits.enter("192.0.2.1"), null);
});

test("those who log in are no failures", () => {
  const limits = new AddressLimits(() => 0);
  for (let count = 0; count < 10 * FAILURES_BURST; count += 1) {
    const leave = limits.enter("192.0.2.1");
    assert.ok(leave);
    leave(true);
  }
});

test("connections that have not logged in are few, from one address and in all", () => {
  const limits = new AddressLimits(() => 0);
  for (let count = 0; count < STRANGERS_PER_ADDRESS_MAX; count += 1) assert.ok(limits.enter("2001:db8::1"));
  assert.equal(limits.enter("2001:db8::1"), null);
  let entered = STRANGERS_PER_ADDRESS_MAX;
  for (let host = 0; limits.enter(`192.0.2.${host}`) !== null; host += 1) entered += 1;
  assert.equal(entered, STRANGERS_MAX);
});
