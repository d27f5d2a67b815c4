import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { ReadyQueue } from "./ready-queue.ts";

class Item implements AsyncDisposable {
  static open = 0;
  constructor() {
    Item.open += 1;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    Item.open -= 1;
  }
}

suite("ready queue", () => {
  test("more can be taken at a time than are kept ready, and closing ends what nobody took", async () => {
    Item.open = 0;
    const queue = new ReadyQueue(2, async () => new Item());
    queue.fill();
    const taken = await Promise.all(Array.from({ length: 7 }, () => queue.take()));
    assert.equal(new Set(taken).size, 7);
    await queue[Symbol.asyncDispose]();
    assert.equal(Item.open, 7, "only those that were taken are left");
  });

  test("nothing is made before the queue is told to fill, except what is asked for", async () => {
    Item.open = 0;
    const queue = new ReadyQueue(2, async () => new Item());
    await queue.take();
    await new Promise(setImmediate);
    assert.equal(Item.open, 1);
    queue.fill();
    await new Promise(setImmediate);
    assert.equal(Item.open, 3);
    await queue[Symbol.asyncDispose]();
    assert.equal(Item.open, 1);
  });

  test("a caller that waits learns why nothing comes, and the next one may succeed", async () => {
    let isBroken = true;
    const queue = new ReadyQueue(0, async () => {
      if (isBroken) throw new Error("broken");
      return new Item();
    });
    await assert.rejects(queue.take(), /broken/);
    isBroken = false;
    await (await queue.take())[Symbol.asyncDispose]();
    await queue[Symbol.asyncDispose]();
  });

  test("a caller gets the last one that there can be, though the queue is making it for nobody yet", async () => {
    let free = 1;
    const queue = new ReadyQueue(2, async () => {
      if (free === 0) throw new Error("no more");
      free -= 1;
      await new Promise((resolve) => setTimeout(resolve, 20));
      return new Item();
    });
    queue.fill();
    await (await queue.take())[Symbol.asyncDispose]();
    await assert.rejects(queue.take(), /no more/);
    await queue[Symbol.asyncDispose]();
  });

  test("a wait can be aborted, and what was made for it is not lost", async () => {
    Item.open = 0;
    const { promise, resolve } = Promise.withResolvers<void>();
    const queue = new ReadyQueue(0, async () => {
      await promise;
      return new Item();
    });
    const controller = new AbortController();
    const taking = queue.take(controller.signal);
    controller.abort(new Error("no longer wanted"));
    await assert.rejects(taking, /no longer wanted/);
    resolve();
    await queue[Symbol.asyncDispose]();
    assert.equal(Item.open, 0);
  });

  test("closing rejects those who wait", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const queue = new ReadyQueue(0, async () => {
      await promise;
      return new Item();
    });
    const taking = assert.rejects(queue.take(), /closing/);
    const closing = queue[Symbol.asyncDispose]();
    await taking;
    resolve();
    await closing;
  });
});
