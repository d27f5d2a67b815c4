import assert from "node:assert/strict";
import { test } from "node:test";
import { CaissonError } from "@caisson/model";
import type { Node } from "@caisson/node";
import { FarStore, farDisk } from "../../../testing/far-store.ts";
import { Replicator } from "./replicator.ts";

async function recordedFor(failure: Error): Promise<string> {
  const recorded = Promise.withResolvers<string>();
  const due = [farDisk("snp_1", "ready")];
  using far = new FarStore(
    {},
    {
      listDueReplications: async () => due.splice(0),
      failReplication: async (_id, error) => recorded.resolve(error),
    },
    { exportDisk: () => Promise.reject(failure) },
  );
  const { snapshotStore } = far.app;
  assert.ok(snapshotStore);
  const stop = new Replicator().start(far.app, snapshotStore);
  try {
    return await recorded.promise;
  } finally {
    await stop();
  }
}

test("why a snapshot is not replicated is told where it is meant for tenants, and stays in the log otherwise", async () => {
  const full = "Cannot use the snapshot store: it is full. Make room there, or delete snapshots that it holds";
  assert.equal(await recordedFor(new CaissonError("SNAPSHOT_STORE_UNAVAILABLE", full)), full);
  const words = await recordedFor(new Error("ENOENT: /var/lib/caisson/regions/ord"));
  assert.equal(words, "It could not be replicated: the server's log says why");
});

test("a node that hangs holds up no other node's snapshots, and its own next connection waits for what it is at", async () => {
  const uploads = Promise.withResolvers<void>();
  const isAsked = Promise.withResolvers<void>();
  const due = new Map([
    ["nod_slow", [farDisk("snp_slow", "ready")]],
    ["nod_sample", [farDisk("snp_quick", "ready")]],
  ]);
  const failed: string[] = [];
  const quick = Promise.withResolvers<void>();
  using far = new FarStore(
    {},
    {
      listDueReplications: async (nodeId) => due.get(nodeId)?.splice(0) ?? [],
      async failReplication(id) {
        failed.push(id);
        if (id === "snp_quick") quick.resolve();
      },
    },
    { exportDisk: () => Promise.reject(new Error("away")) },
  );
  const owner = { nodeId: "nod_slow", generation: 1 };
  const hanging = {
    async exportDisk() {
      isAsked.resolve();
      await uploads.promise;
      throw new Error("it was lost");
    },
  };
  const slow = { ...far.connected, owner, node: hanging as unknown as Node };
  far.app.nodes.add(slow);
  for (const snapshot of due.get("nod_slow") ?? []) Object.assign(snapshot, { owner });
  const { snapshotStore } = far.app;
  assert.ok(snapshotStore);
  const replicator = new Replicator();
  const stop = replicator.start(far.app, snapshotStore);
  await isAsked.promise;
  await quick.promise;
  assert.deepEqual(failed, ["snp_quick"]);
  // It is connected to again while the first call still hangs.
  const again: string[] = [];
  far.app.nodes.add({ ...slow, node: { exportDisk: async () => again.push("asked") } as unknown as Node });
  due.set("nod_slow", [Object.assign(farDisk("snp_slow", "ready"), { owner })]);
  replicator.wake();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(again, []);
  const stopping = stop();
  uploads.resolve();
  await stopping;
});

test("a batch whose failures cannot be recorded either is tried again after a pause, and not at once", async () => {
  const due = Array.from({ length: 16 }, (_, index) => farDisk(`snp_${index}`, "ready"));
  let looks = 0;
  let failures = 0;
  const isOver = Promise.withResolvers<void>();
  using far = new FarStore(
    {},
    {
      async listDueReplications() {
        looks += 1;
        return due;
      },
      async failReplication() {
        failures += 1;
        if (failures === due.length) isOver.resolve();
        throw new Error("the database is full");
      },
    },
    { exportDisk: () => Promise.reject(new Error("away")) },
  );
  const { snapshotStore } = far.app;
  assert.ok(snapshotStore);
  const stop = new Replicator().start(far.app, snapshotStore);
  await isOver.promise;
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  await stop();
  assert.equal(looks, 1);
  assert.equal(failures, due.length);
});
