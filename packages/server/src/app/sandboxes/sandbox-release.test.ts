import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { CaissonError, type ErrorCode } from "@caisson/model";
import { FarStore, farDisk } from "../../../testing/far-store.ts";
import { releaseSandbox } from "./sandbox-release.ts";

const LOCAL = "vol_ord_00000000000000000000";
const REPLICATED = "vol_ord_o0000000000000000000";

/** Of a sandbox that the node's run before had, with one volume, whose recovery fails so. */
async function release(volumeId: string, failure: Error): Promise<void> {
  using far = new FarStore(
    {},
    { get: async (id) => farDisk(id, "ready") },
    { recoverDisk: () => Promise.reject(failure) },
  );
  const { owner } = far.connected;
  const sandboxes = { holds: async () => [{ volumeId, isReadOnly: false }] };
  const app = { ...far.app, store: { ...far.app.store, sandboxes } } as unknown as typeof far.app;
  await releaseSandbox(app, {
    id: "sbx_ord_a",
    region: "ord",
    owner: { nodeId: owner.nodeId, generation: owner.generation - 1 },
  });
}

const failed = (code: ErrorCode) => new CaissonError(code, "it fails");

suite("the release of a sandbox whose run is over", () => {
  for (const code of [
    "NODE_UNAVAILABLE",
    "DISK_UNAVAILABLE",
    "REGION_UNAVAILABLE",
    "SHUTTING_DOWN",
    "VOLUME_IN_USE",
  ] as const)
    test(`a replicated volume stays held when its recovery fails with ${code}: the run before may still write to it`, async () => {
      await assert.rejects(release(REPLICATED, failed(code)), { code });
    });

  test("a volume that is damaged keeps no other from being released, nor does a local one that cannot be recovered", async () => {
    for (const error of [failed("VOLUME_DAMAGED"), failed("INTERNAL_ERROR"), new Error("e2fsck failed")])
      await release(REPLICATED, error);
    await release(LOCAL, failed("DISK_UNAVAILABLE"));
    await assert.rejects(release(LOCAL, failed("NODE_UNAVAILABLE")), { code: "NODE_UNAVAILABLE" });
  });
});
