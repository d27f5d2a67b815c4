import assert from "node:assert/strict";
import { afterEach, beforeEach, suite, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { CaissonError } from "@caisson/model";
import { WarmContainer } from "./warm-container.ts";
import { type PooledContainer, WarmPool } from "./warm-pool.ts";

const SMALL = 768 * 2 ** 20;
const LARGE = 4096 * 2 ** 20;

class Fake implements PooledContainer {
  readonly memoryBytes: number;
  readonly #ended = Promise.withResolvers<void>();
  readonly failures: Error[] = [];
  state: PooledContainer["state"] = "preparing";

  constructor(memoryBytes: number) {
    this.memoryBytes = memoryBytes;
  }

  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  die(): void {
    this.state = "ended";
    this.#ended.resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const failure = this.failures.shift();
    if (failure !== undefined) throw failure;
    this.die();
  }
}

suite("pool of containers that wait", () => {
  let made: Fake[];
  let warnings: string[];
  let failure: Error | null;
  let pool: WarmPool<Fake>;
  beforeEach(() => {
    made = [];
    warnings = [];
    failure = null;
    pool = new WarmPool<Fake>({
      count: 2,
      memoryBytes: SMALL,
      make(memoryBytes) {
        const container = new Fake(memoryBytes);
        made.push(container);
        return container;
      },
      async prepare(container) {
        if (failure !== null) throw failure;
        container.state = "waiting";
      },
      isUpToDate: () => true,
      warn: (_error, message) => void warnings.push(message),
    });
  });
  afterEach(async () => {
    await pool[Symbol.asyncDispose]();
    assert.ok(made.every(({ state }) => state !== "waiting"));
  });
  const take = (memoryBytes: number): Fake | null => {
    const container = pool.take(memoryBytes);
    // A create owns what it has taken.
    if (container !== null) container.state = "running";
    return container;
  };

  test("as many wait as should, each is taken once, and more are made later", async () => {
    await pool.filled();
    const both = [take(SMALL), take(SMALL)];
    assert.equal(new Set(both).size, 2);
    assert.equal(take(SMALL), null);
    while (pool.waitingCount < 2) await delay(5);
    assert.equal(made.length, 4);
  });

  test("they are for the memory of the latest creates", async () => {
    await pool.filled();
    assert.equal(take(LARGE), null, "the agent's heap is made for less");
    await pool.filled();
    assert.equal(take(LARGE)?.memoryBytes, LARGE);
    await pool.filled();
    assert.deepEqual([take(LARGE)?.memoryBytes, take(LARGE)?.memoryBytes], [LARGE, LARGE]);
    assert.equal(made.filter(({ state }) => state === "waiting").length, 0);
  });

  test("one that dies is replaced, and never taken", async () => {
    await pool.filled();
    made[0]?.die();
    const left = take(SMALL);
    assert.equal(left, made[1]);
    while (pool.waitingCount < 2) await delay(5);
  });

  test("three failures in a row pause it, one more after the pause again, and a success counts anew", async ({
    mock,
  }) => {
    mock.timers.enable({ apis: ["setTimeout"] });
    await pool.filled();
    pool.failed(new Error("one"));
    pool.failed(new Error("two"));
    pool.succeeded();
    pool.failed(new Error("one"));
    failure = new Error("two, of a preparation");
    take(SMALL);
    await pool.filled();
    assert.notEqual(take(SMALL), null, "it is not over yet");
    await pool.filled();
    assert.match(warnings.at(-1) ?? "", /All sandboxes start cold/);
    failure = null;
    await pool.filled();
    assert.equal(pool.waitingCount, 0);
    assert.equal(take(SMALL), null);

    const pause = async (): Promise<void> => {
      mock.timers.tick(10 * 60_000);
      await pool.filled();
    };
    failure = new Error("still so");
    const toldBefore = warnings.length;
    await pause();
    assert.equal(warnings.length, toldBefore + 1);
    assert.equal(pool.waitingCount, 0);
    failure = null;
    await pause();
    assert.equal(pool.waitingCount, 2);
  });

  test("a server that is full is no failure, and one that waits makes room", async () => {
    await pool.filled();
    failure = new CaissonError("SERVER_FULL", "full");
    for (let round = 0; round < 5; round += 1) {
      take(SMALL);
      await pool.filled();
    }
    assert.deepEqual(warnings, []);
    failure = null;
    await pool.filled();
    assert.equal(await pool.evict(), true);
    assert.equal(await pool.evict(), true);
    assert.equal(await pool.evict(), false);
  });

  test("what cannot be ended is tried again", async () => {
    await pool.filled();
    made[0]?.failures.push(new Error("busy"));
    assert.equal(await pool.evict(), true);
    while (made[0]?.state !== "ended") await delay(5);
  });
});

test("a container that does not wait becomes no sandbox", () => {
  const container = new WarmContainer(SMALL);
  assert.throws(() => container.adopt(), /preparing/);
  assert.throws(() => container.run(), /preparing/);
});
