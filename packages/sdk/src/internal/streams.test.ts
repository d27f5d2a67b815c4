import assert from "node:assert/strict";
import { once } from "node:events";
import { PassThrough, Writable } from "node:stream";
import { test } from "node:test";
import { collect, drainInto } from "./streams.ts";

function source(count: number, onCancel: () => void = () => undefined): ReadableStream<Uint8Array<ArrayBuffer>> {
  let sent = 0;
  return new ReadableStream(
    {
      pull(controller) {
        if (sent === count) return controller.close();
        sent += 1;
        controller.enqueue(new Uint8Array([sent]));
      },
      cancel: onCancel,
    },
    { highWaterMark: 0 },
  );
}

test("a stream is collected whole, also when it is empty", async () => {
  assert.deepEqual(await collect(source(0)), new Uint8Array());
  assert.deepEqual(await collect(source(1)), new Uint8Array([1]));
  assert.deepEqual(await collect(source(3)), new Uint8Array([1, 2, 3]));
});

test("many copies go into one output side by side, in its pace, and leave it open and without listeners", async () => {
  const target = new PassThrough({ highWaterMark: 1 });
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => warnings.push(warning);
  process.on("warning", onWarning);
  const before = target.listenerCount("error");
  const copies = Promise.all(Array.from({ length: 30 }, () => drainInto(source(5), target)));
  let received = 0;
  target.on("data", (chunk: Buffer) => {
    received += chunk.byteLength;
  });
  await copies;
  await new Promise((resolve) => setImmediate(resolve));
  process.off("warning", onWarning);
  assert.equal(received, 150);
  assert.equal(target.writableEnded, false);
  assert.equal(target.listenerCount("error"), before);
  assert.deepEqual(warnings, []);
});

test("an output that is gone ends the copy and cancels its source", async () => {
  const target = new Writable({ write: (_chunk, _encoding, done) => done(new Error("EPIPE")) });
  let isCancelled = false;
  await drainInto(
    source(5, () => {
      isCancelled = true;
    }),
    target,
  );
  assert.equal(isCancelled, true);
  if (!target.closed) await once(target, "close");
});
