import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { CloneQueue } from "./clone-queue.ts";

suite("clones of one fragmented image", () => {
  test("are made one after the other, those of others meanwhile", async () => {
    const queue = new CloneQueue();
    const order: string[] = [];
    const first = Promise.withResolvers<void>();
    const running = [
      queue.run("snp_a", 1000, "create a", async () => {
        await first.promise;
        order.push("a");
      }),
      queue.run("snp_a", 1000, "create b", async () => void order.push("b")),
      queue.run("snp_c", 1000, "create c", async () => {
        order.push("c");
        first.resolve();
      }),
    ];
    await Promise.all(running);
    assert.deepEqual(order, ["c", "a", "b"]);
  });

  test("are refused where they would take longer than a client waits, the first never, and not any more when others are done", async () => {
    const queue = new CloneQueue();
    const first = Promise.withResolvers<void>();
    const running = queue.run("snp_a", 300_000, "create a", () => first.promise);
    const second = () => queue.run("snp_a", 300_000, "create b", async () => "made");
    await assert.rejects(second(), { code: "SNAPSHOT_BUSY", message: /create b now: .* in 300000 parts .* Try again/ });
    first.resolve();
    await running;
    assert.equal(await second(), "made");
  });

  test("what copies took decides how many may wait", async () => {
    const queue = new CloneQueue();
    for (let copies = 0; copies < 20; copies += 1) queue.learn(100_000, 200);
    const first = Promise.withResolvers<void>();
    const running = queue.run("snp_a", 300_000, "create a", () => first.promise);
    const others = Array.from({ length: 8 }, () => queue.run("snp_a", 300_000, "create b", async () => undefined));
    first.resolve();
    await Promise.all([running, ...others]);
  });

  test("one that fails keeps nobody else", async () => {
    const queue = new CloneQueue();
    await assert.rejects(
      queue.run("snp_a", 300_000, "create a", () => Promise.reject(new Error("no"))),
      /no/,
    );
    assert.equal(await queue.run("snp_a", 300_000, "create b", async () => 1), 1);
  });
});
