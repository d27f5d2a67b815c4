import assert from "node:assert/strict";
import { test } from "node:test";
import type { Disk, DiskStore, Owner } from "@caisson/database";
import { SAMPLE_OWNER } from "@caisson/database/testing";
import { KeyedLock } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import pino from "pino";
import type { AppContext } from "../context.ts";
import type { Region } from "../region.ts";
import { makeRoom, RoomMaker, withRoom } from "./room.ts";

/** A pool with 100 bytes of headroom, and nothing deleted in it. */
function emptyHanded(pool: { freeBytes: number }): { readonly app: AppContext; readonly region: Region } {
  const capacity = async () => {
    const { freeBytes } = pool;
    const own = { totalBytes: 1000, headroomBytes: 100, freeBytes, availableBytes: Math.max(0, freeBytes - 100) };
    return { ...own, disks: [{ ...own, directory: "/pool", problem: null }] };
  };
  const app = {
    owner: SAMPLE_OWNER,
    config: { volumes: { retentionMs: 2, retentionFloorMs: 1 } },
    store: { disks: { listDeleted: async () => [] } },
    logger: pino({ level: "silent" }),
  };
  return {
    app: app as unknown as AppContext,
    region: { name: "ord", storage: { capacity }, room: new RoomMaker() } as unknown as Region,
  };
}

test("what can be made again is evicted in order, as much as is wanted, and a failure keeps nobody else", async () => {
  const pool = { freeBytes: 120 };
  const { app, region } = emptyHanded(pool);
  const asked: [string, number][] = [];
  const add = (name: string, frees: number | Error) =>
    region.room.register({
      name,
      async evict(bytes) {
        asked.push([name, bytes]);
        if (frees instanceof Error) throw frees;
        pool.freeBytes += frees;
      },
    });
  add("broken", new Error("broken"));
  add("small", 30);
  add("large", 500);
  add("last", 500);
  assert.equal(await makeRoom(app, region), true);
  assert.deepEqual(asked, [
    ["broken", 80],
    ["small", 80],
    ["large", 50],
  ]);
});

test("work that finds no room is tried once more when some was made, and fails as it did when none was", async () => {
  const pool = { freeBytes: 100 };
  const { app, region } = emptyHanded(pool);
  let tries = 0;
  const work = async () => {
    tries += 1;
    if (pool.freeBytes < 200) throw new CaissonError("STORAGE_FULL", `try ${tries}`);
    return "done";
  };
  await assert.rejects(withRoom(app, region, work), /try 1/);
  region.room.register({
    name: "spares",
    async evict() {
      pool.freeBytes = 300;
    },
  });
  tries = 0;
  assert.equal(await withRoom(app, region, work), "done");
  assert.equal(tries, 2);
});

test("the disk that needs room is served however many older deletions lie on others, and nothing of those is purged", async () => {
  const deleted = Array.from({ length: 2500 }, (_, index) => ({
    id: `vol_ord_${index}`,
    slug: `${index}`,
    kind: "volume",
    region: "ord",
    owner: SAMPLE_OWNER,
    deletedAtMs: null,
  })) as unknown as readonly Disk[];
  const full = "vol_ord_2400";
  const purged: string[] = [];
  const own = { totalBytes: 1000, headroomBytes: 100, freeBytes: 500, availableBytes: 400, problem: null };
  const region = {
    name: "ord",
    room: new RoomMaker(),
    roots: { evict: async () => true },
    storage: {
      async capacity() {
        const availableBytes = purged.length > 0 ? 400 : 50;
        return {
          ...own,
          disks: [
            { ...own, directory: "/a" },
            { ...own, availableBytes, directory: "/b" },
          ],
        };
      },
      placeOf: (id: string) => ({ directory: id === full ? "/b" : "/a", problem: null }),
      deleteImage: async (id: string) => void purged.push(id),
    },
  } as unknown as Region;
  const { app } = emptyHanded({ freeBytes: 0 });
  Object.assign(app, { locks: new KeyedLock(), regions: new Map([["ord", region]]) });
  Object.assign(app.store.disks, {
    async listDeleted(...[, , , { limit, after }]: Parameters<DiskStore["listDeleted"]>) {
      const first = after === null ? 0 : deleted.findIndex(({ id }) => id === after.id) + 1;
      return deleted.slice(first, first + limit);
    },
    beginPurgeOf: async (_owner: Owner, id: string) => deleted.find((disk) => disk.id === id),
    forget: async () => undefined,
  });
  await makeRoom(app, region);
  assert.deepEqual(purged, [full]);
});
