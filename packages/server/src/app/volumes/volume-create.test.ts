import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { KeyedLock } from "@caisson/linux";
import type { AppContext } from "../context.ts";
import { findEarlier } from "./volume-create.ts";

suite("a request with an idempotency key that was used", () => {
  const find = (disk: object | null) =>
    findEarlier(
      { locks: new KeyedLock(), store: { disks: { get: async () => disk } } } as unknown as AppContext,
      "vol_a",
    );

  test("gets what the first one made, also when it was deleted since", async () => {
    for (const state of ["ready", "deleted"]) assert.deepEqual(await find({ state }), { state });
  });

  test("is told to come again while a failure is being undone, and to use a new key only when the object is gone", async () => {
    const creating = { state: "creating", kind: "volume", slug: "cache" };
    await assert.rejects(find(creating), /volume "cache" is still being undone: send the request again in a moment/);
    for (const disk of [{ state: "purging" }, null])
      await assert.rejects(find(disk), { code: "IDEMPOTENCY_KEY_REUSED", message: /is gone: use a new key/ });
  });
});
