import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { open } from "node:fs/promises";
import { test } from "node:test";
import { keepProcessorsAwake } from "./processor-idle.ts";

const skip = existsSync("/dev/cpu_dma_latency")
  ? false
  : "the kernel takes no requests for short delays (/dev/cpu_dma_latency)";

/** The longest delay that anybody on this machine accepts, in µs. */
async function acceptedDelayUs(): Promise<number> {
  await using file = await open("/dev/cpu_dma_latency", "r");
  const { buffer } = await file.read(Buffer.alloc(4), 0, 4, null);
  return new Int32Array(buffer.buffer, buffer.byteOffset, 1)[0] ?? Number.NaN;
}

test("processors are asked to stay awake for as long as the request is held", { skip }, async () => {
  {
    await using request = await keepProcessorsAwake();
    assert.notEqual(request, null);
    assert.equal(await acceptedDelayUs(), 0);
  }
  // Servers of other tests may hold one of their own for a while.
  const deadline = performance.now() + 20_000;
  while ((await acceptedDelayUs()) === 0) assert.ok(performance.now() < deadline, "the request was not given up");
});
