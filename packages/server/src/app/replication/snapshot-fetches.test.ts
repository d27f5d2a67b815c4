import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { SnapshotFetches } from "./snapshot-fetches.ts";

const STAYING = new AbortController().signal;
const LEFT = new Error("the client left");

suite("fetches", () => {
  test("of one snapshot are one, which goes on while anybody waits, and ends with the last who leaves", async () => {
    const fetches = new SnapshotFetches();
    let [count, ended] = [0, false];
    const fetch = (signal: AbortSignal) => {
      count += 1;
      return new Promise<void>((_resolve, reject) =>
        signal.addEventListener("abort", () => {
          ended = true;
          reject(signal.reason);
        }),
      );
    };
    const clients = [new AbortController(), new AbortController()] as const;
    const waits = clients.map(({ signal }) => fetches.join("snp_1", signal, fetch));
    const rejections = waits.map((wait) => assert.rejects(wait, LEFT));
    clients[0].abort(LEFT);
    await rejections[0];
    assert.deepEqual([count, ended], [1, false]);
    clients[1].abort(LEFT);
    await rejections[1];
    assert.deepEqual([count, ended], [1, true]);
    let isFetched = false;
    await fetches.join("snp_1", STAYING, async () => {
      isFetched = true;
    });
    assert.ok(isFetched, "the next one begins anew");
  });

  test("are so many at a time, and one that nobody waits for any more takes no turn", async () => {
    const fetches = new SnapshotFetches();
    const gates = Array.from({ length: 6 }, () => Promise.withResolvers<void>());
    const begun: number[] = [];
    const client = new AbortController();
    const joins = gates.map((gate, index) =>
      fetches.join(`snp_${index}`, index === 4 ? client.signal : STAYING, () => {
        begun.push(index);
        return gate.promise;
      }),
    );
    const left = assert.rejects(joins[4] ?? Promise.resolve(), LEFT);
    client.abort(LEFT);
    await left;
    assert.deepEqual(begun, [0, 1, 2, 3]);
    gates[1]?.resolve();
    await joins[1];
    await new Promise(setImmediate);
    assert.deepEqual(begun, [0, 1, 2, 3, 5]);
    for (const gate of gates) gate.resolve();
    await Promise.all(joins.filter((_, index) => index !== 4));
  });

  test("tell how far they are, from when they are asked for until they end", async () => {
    const fetches = new SnapshotFetches();
    const gate = Promise.withResolvers<void>();
    assert.equal(fetches.progressOf("snp_1"), null);
    const join = fetches.join("snp_1", STAYING, async (_signal, progress) => {
      progress.totalBytes = 30;
      progress.doneBytes += 10;
      await gate.promise;
    });
    const { startedAtMs, ...bytes } = fetches.progressOf("snp_1") ?? assert.fail();
    assert.ok(Math.abs(Date.now() - startedAtMs) < 60_000);
    assert.deepEqual(bytes, { doneBytes: 10, totalBytes: 30 });
    assert.equal(fetches.progressOf("snp_2"), null);
    gate.resolve();
    await join;
    assert.equal(fetches.progressOf("snp_1"), null);
  });

  test("tell everybody who waits why they failed", async () => {
    const fetches = new SnapshotFetches();
    const fail = () => Promise.reject(new Error("the store is away"));
    const joins = [1, 2].map(() => fetches.join("snp_1", STAYING, fail));
    for (const join of joins) await assert.rejects(join, /store is away/);
  });
});
