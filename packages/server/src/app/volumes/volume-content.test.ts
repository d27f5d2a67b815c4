import assert from "node:assert/strict";
import { test } from "node:test";
import { KeyedLock, UndoStack } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { AppContext } from "../context.ts";
import type { Region } from "../region.ts";
import { volumeContentSteps } from "./volume-content.ts";

test("a clone that takes long keeps no sandbox from its source, and the storage decides whether another clone can wait", async () => {
  const first = Promise.withResolvers<void>();
  let clones = 0;
  const storage = {
    async createImage() {
      clones += 1;
      if (clones > 1) throw new CaissonError("SNAPSHOT_BUSY", "Cannot create it now: try again");
      await first.promise;
    },
  };
  const app = { locks: new KeyedLock() } as unknown as AppContext;
  const region = { storage } as unknown as Region;
  const clone = async (id: string): Promise<void> => {
    const content = { source: { imageId: "snp_ord_a", sizeBytes: 4096 }, inodes: null };
    for (const step of volumeContentSteps(app, region, { id, capacityBytes: 4096 }, content))
      await step.run("volume-create", new UndoStack());
  };
  const cloning = clone("vol_ord_a");
  const held = new Promise<string>((resolve) => setTimeout(resolve, 1000, "held"));
  const start = app.locks.run("snp_ord_a", async () => "free");
  assert.equal(await Promise.race([start, held]), "free");
  await assert.rejects(clone("vol_ord_b"), { code: "SNAPSHOT_BUSY" });
  first.resolve();
  await cloning;
});
