import assert from "node:assert/strict";
import { test } from "node:test";
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
