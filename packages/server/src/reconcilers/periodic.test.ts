import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { CaissonError } from "@caisson/model";
import { FarStore, farDisk } from "../../testing/far-store.ts";
import { takeUpOwnNode } from "../own-node.ts";
import { purgeExpired, startNodeJobs } from "./periodic.ts";

const EXPIRED = ["snp_1", "vol_1", "snp_2", "vol_2"].map((id) => farDisk(id, "purging"));

suite("purges beside a snapshot store that is away", () => {
  test("ask it once in a round, after everything that it has no part in", async () => {
    using far: FarStore = new FarStore(
      {
        async delete({ id }) {
          far.calls.push(`ask ${id}`);
          throw new CaissonError("SNAPSHOT_STORE_UNAVAILABLE", "it is away");
        },
      },
      { beginPurge: async () => EXPIRED },
    );
    const count = (verb: string) => far.calls.filter((call) => call.startsWith(`${verb} snp_`)).length;
    await purgeExpired(far.app, far.connected);
    assert.deepEqual(far.calls.slice(0, 4), ["delete vol_1", "forget vol_1", "delete vol_2", "forget vol_2"]);
    assert.deepEqual(["delete", "ask", "forget"].map(count), [2, 1, 0]);
    await purgeExpired(far.app, far.connected);
    assert.equal(count("ask"), 2, "the next round asks again");
  });

  test("take out of it what they can while it answers", async () => {
    using far: FarStore = new FarStore(
      { delete: async ({ id }) => void far.calls.push(`ask ${id}`) },
      { beginPurge: async () => EXPIRED },
    );
    await purgeExpired(far.app, far.connected);
    assert.deepEqual(far.calls.slice(4).sort(), [
      ...["ask snp_1", "ask snp_2", "delete snp_1", "delete snp_2", "forget snp_1", "forget snp_2"],
    ]);
  });

  test("do not ask it when the server starts, which misses no image that is gone for good", async (t) => {
    using far: FarStore = new FarStore(
      { delete: async ({ id }) => void far.calls.push(`ask ${id}`) },
      {
        beginPurge: async () => EXPIRED,
        listUnsettled: async () => [farDisk("snp_0", "purging")],
        listIds: async () => [{ id: "snp_0", region: "ord" }],
      },
    );
    const reported = t.mock.method(far.app.logger, "error", () => undefined);
    const stop = await takeUpOwnNode(far.app, far.connected);
    await stop();
    assert.deepEqual(far.calls.filter((call) => call.includes("snp_")).sort(), [
      ...["delete snp_0", "delete snp_1", "delete snp_2"],
    ]);
    assert.equal(reported.mock.callCount(), 0);
  });

  test("end with the server, though it says nothing", async (t) => {
    const asked = Promise.withResolvers<void>();
    using far: FarStore = new FarStore(
      {
        delete({ id }, signal) {
          far.calls.push(`ask ${id}`);
          asked.resolve();
          return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
        },
      },
      { beginPurge: async () => EXPIRED },
    );
    t.mock.timers.enable({ apis: ["setInterval"] });
    const stop = startNodeJobs(far.app, far.connected);
    t.mock.timers.tick(60_000);
    await asked.promise;
    await stop();
    assert.equal(far.calls.filter((call) => call.startsWith("delete snp_")).length, 1, "no further one begins");
  });
});
