import assert from "node:assert/strict";
import { test } from "node:test";
import { CaissonError } from "@caisson/model";
import type { DiskExport } from "@caisson/node";
import { FarStore, farDisk } from "../../../testing/far-store.ts";
import { uploadSnapshot } from "./snapshot-upload.ts";

test("a snapshot that is purged during its upload leaves the store, also when the first try of that fails", async () => {
  let tries = 0;
  let isClosed = false;
  const image = {
    ...{ sizeBytes: 1, fileSystem: {} },
    async [Symbol.asyncDispose]() {
      isClosed = true;
    },
  };
  using far = new FarStore(
    {
      async upload() {
        await new Promise(setImmediate);
        assert.ok(!isClosed, "the image is open while it is read");
        return { manifest: "m", imageDigest: "d", storedBytes: 1, readBytes: 1, sharedBytes: 0, sentBytes: 1 };
      },
      async delete(_snapshot, signal) {
        assert.ok(signal);
        tries += 1;
        if (tries === 1) throw new CaissonError("SNAPSHOT_STORE_UNAVAILABLE", "it is away");
      },
    },
    { finishReplication: () => Promise.reject(new CaissonError("SNAPSHOT_NOT_FOUND", "it was purged")) },
    { exportDisk: async () => image as unknown as DiskExport },
  );
  const { snapshotStore } = far.app;
  assert.ok(snapshotStore);
  const uploading = uploadSnapshot(far.app, snapshotStore, farDisk("snp_1", "ready"), new AbortController().signal);
  await assert.rejects(uploading, { code: "SNAPSHOT_NOT_FOUND" });
  await far.app.persistent.close();
  assert.equal(tries, 2);
});
