import assert from "node:assert/strict";
import { test } from "node:test";
import { CaissonError } from "@caisson/model";
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
