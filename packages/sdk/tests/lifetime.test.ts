import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { Sandbox } from "../src/index.ts";
import { FakeSandbox } from "./fake-sandbox.ts";

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;

/** The answer of a server whose clock is an hour ahead of ours. */
function answer(remainingMs: number): { readonly stopAt: Date; readonly headers: Readonly<Record<string, string>> } {
  const now = new Date(Math.floor(Date.now() / 1000) * 1000 + HOUR_MS);
  const stopAt = new Date(now.getTime() + remainingMs);
  const id = "sbx_ord_0123456789abcdefghjk";
  const headers = {
    "x-deno-sandbox-id": id,
    "x-caisson-stop-at-ms": String(stopAt.getTime()),
    date: now.toUTCString(),
  };
  return { stopAt, headers };
}

test("a sandbox knows its end, and says once when that is earlier than was asked for", async () => {
  const { stopAt, headers } = answer(30 * MINUTE_MS);
  await using fake = await FakeSandbox.start({}, headers);
  const told: Date[] = [];
  const onShortened = (end: Date): void => void told.push(end);
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "60m", onShortened });
  assert.deepEqual([sandbox.stopAt, told], [stopAt, [stopAt]]);
  await using allowed = await Sandbox.create({ ...fake.options, timeout: "30m", onShortened });
  await using connected = await Sandbox.connect(sandbox.id, fake.options);
  assert.deepEqual([allowed.stopAt, connected.stopAt, told.length], [stopAt, stopAt, 1]);
});

test("without a listener that is a warning of the process", async () => {
  const { stopAt, headers } = answer(30 * MINUTE_MS);
  await using fake = await FakeSandbox.start({}, headers);
  const warned = once(process, "warning");
  await using _sandbox = await Sandbox.create({ ...fake.options, timeout: "31m" });
  const [{ name, message }] = await warned;
  assert.equal(name, "CaissonWarning");
  assert.ok(message.startsWith(`31m is more than the server allows: the sandbox ends at ${stopAt.toISOString()}. `));
});

test("a session has no end of its own", async () => {
  await using fake = await FakeSandbox.start();
  await using sandbox = await Sandbox.create(fake.options);
  assert.equal(sandbox.stopAt, null);
});
