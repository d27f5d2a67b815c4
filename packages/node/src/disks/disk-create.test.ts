import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { KeyedLock } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { Pool } from "../pools/pool.ts";
import { createDisk } from "./disk-create.ts";

const SOURCE = { imageId: "snp_ord_a", sizeBytes: 4096 };

suite("the creation of a disk", () => {
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
    const pool = { locks: new KeyedLock(), storage } as unknown as Pool;
    const clone = (id: string) =>
      createDisk(pool, new Set(), { region: "ord", id, sizeBytes: 4096, source: SOURCE, inodes: null });
    const cloning = clone("vol_ord_a");
    const held = new Promise<string>((resolve) => setTimeout(resolve, 1000, "held"));
    const start = pool.locks.run(SOURCE.imageId, async () => "free");
    assert.equal(await Promise.race([start, held]), "free");
    await assert.rejects(clone("vol_ord_b"), { code: "SNAPSHOT_BUSY" });
    first.resolve();
    await cloning;
  });

  test("begins again after a failure half-way, and not after a success, which may hold files by now", async () => {
    const calls: string[] = [];
    const images = new Set<string>();
    let isFailing = true;
    const storage = {
      getImage: async (id: string) => (images.has(id) ? { id } : null),
      async createImage(id: string) {
        calls.push("create");
        images.add(id);
      },
      async deleteImage(id: string) {
        calls.push("delete");
        images.delete(id);
      },
      async attach() {
        calls.push("attach");
        if (isFailing) throw new Error("no device");
        throw new CaissonError("VOLUME_DAMAGED", "got as far as the file system");
      },
    };
    const pool = { locks: new KeyedLock(), storage } as unknown as Pool;
    const unfinished = new Set<string>();
    const grown = { region: "ord", id: "vol_ord_a", sizeBytes: 8192, source: SOURCE, inodes: null };
    await assert.rejects(createDisk(pool, unfinished, grown), /no device/);
    isFailing = false;
    await assert.rejects(createDisk(pool, unfinished, grown), /got as far/);
    assert.deepEqual(calls, ["create", "attach", "delete", "create", "attach"]);
    unfinished.clear();
    calls.length = 0;
    await createDisk(pool, unfinished, grown);
    assert.deepEqual(calls, []);
  });
});
