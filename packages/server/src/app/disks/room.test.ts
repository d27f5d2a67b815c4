import assert from "node:assert/strict";
import { test } from "node:test";
import type { Disk, DiskStore, Owner } from "@caisson/database";
import { SAMPLE_OWNER } from "@caisson/database/testing";
import { KeyedLock } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { Node, NodeDescription } from "@caisson/node";
import pino from "pino";
import type { AppContext } from "../context.ts";
import { type ConnectedNode, connectedNode, NodeDirectory } from "../nodes/node-directory.ts";
import { makeRoom, RoomMaker, withRoom } from "./room.ts";

const DESCRIPTION: NodeDescription = {
  runId: "run_a",
  regions: [{ name: "ord", baseImages: [], hasReplicated: false }],
  placeCount: 1,
  placeBound: null,
  labels: {},
  retriedWorkCount: 0,
};

function ownOf({ nodes }: AppContext): ConnectedNode {
  const { own } = nodes;
  assert.ok(own);
  return own;
}

/** A pool with 100 bytes of headroom, and nothing deleted in it. */
function emptyHanded(pool: { freeBytes: number }, makeRoom: () => void = () => {}): AppContext {
  const app = {
    config: { volumes: { retentionMs: 2, retentionFloorMs: 1 } },
    store: { disks: { listDeleted: async () => [] } },
    room: new RoomMaker(),
    logger: pino({ level: "silent" }),
  };
  const node = {
    async poolCapacity() {
      const { freeBytes } = pool;
      const own = { totalBytes: 1000, headroomBytes: 100, freeBytes, availableBytes: Math.max(0, freeBytes - 100) };
      return { ...own, disks: [{ ...own, directory: "/pool", problem: null }] };
    },
    makeRoom: async () => makeRoom(),
  } as unknown as Node;
  const nodes = new NodeDirectory(SAMPLE_OWNER.nodeId);
  nodes.add(connectedNode(SAMPLE_OWNER, node, { ...DESCRIPTION }));
  return { ...app, nodes } as unknown as AppContext;
}

test("work that finds no room is tried once more when some was made, and fails as it did when none was", async () => {
  const pool = { freeBytes: 100 };
  let freedBytes = 0;
  const app = emptyHanded(pool, () => {
    pool.freeBytes += freedBytes;
  });
  let tries = 0;
  const work = async () => {
    tries += 1;
    if (pool.freeBytes < 200) throw new CaissonError("STORAGE_FULL", `try ${tries}`);
    return "done";
  };
  await assert.rejects(withRoom(app, ownOf(app), "ord", work), /try 1/);
  freedBytes = 200;
  tries = 0;
  assert.equal(await withRoom(app, ownOf(app), "ord", work), "done");
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
    lostAtMs: null,
    takenFrom: [],
  })) as unknown as readonly Disk[];
  const full = "vol_ord_2400";
  const purged: string[] = [];
  const own = { totalBytes: 1000, headroomBytes: 100, freeBytes: 500, availableBytes: 400, problem: null };
  const app = emptyHanded({ freeBytes: 0 });
  Object.assign(app, { locks: new KeyedLock() });
  Object.assign(ownOf(app).node, {
    async poolCapacity() {
      const availableBytes = purged.length > 0 ? 400 : 50;
      return {
        ...own,
        disks: [
          { ...own, directory: "/a" },
          { ...own, availableBytes, directory: "/b" },
        ],
      };
    },
    placesOf: async (_region: string, ids: readonly string[]) =>
      ids.map((id) => ({ directory: id === full ? "/b" : "/a", problem: null })),
    async deleteDisk({ id }: { id: string }) {
      purged.push(id);
      return "deleted";
    },
  });
  Object.assign(app.store.disks, {
    async listDeleted(...[, , , { limit, after }]: Parameters<DiskStore["listDeleted"]>) {
      const first = after === null ? 0 : deleted.findIndex(({ id }) => id === after.id) + 1;
      return deleted.slice(first, first + limit);
    },
    beginPurgeOf: async (_owner: Owner, id: string) => deleted.find((disk) => disk.id === id),
    forget: async () => undefined,
  });
  await makeRoom(app, ownOf(app), "ord");
  assert.deepEqual(purged, [full]);
});
