import { toDisk, toNode, toSandbox } from "../records.ts";
import { diskNotFound } from "../refusals.ts";
import type { DiskStore, NodeRecord, SandboxRecord } from "../store.ts";
import { requireTakeOver } from "../take-over.ts";
import type { Database, Queries } from "./database.ts";
import { writeEvent } from "./events.ts";
import { NODE_COLUMNS, requireLatest } from "./nodes.ts";
import { finishSandbox } from "./sandboxes.ts";

type TakenDiskStore = Pick<DiskStore, "takeOver" | "settleTakeOver">;

/** Disks that change their node. */
export function createTakenDiskStore(database: Database): TakenDiskStore {
  return {
    takeOver(id, owner, nowMs, events, from = "lost") {
      return database.transaction(async (queries) => {
        const row = await queries.get("SELECT * FROM disks WHERE id = $1 FOR NO KEY UPDATE", id);
        if (row === undefined) throw diskNotFound("disk", id);
        const disk = toDisk(row);
        if (disk.owner.nodeId === owner.nodeId) return disk;
        // What its run begins or renews just now is in the database before.
        const former = await nodeOf(queries, disk.owner.nodeId, "FOR UPDATE");
        await requireLatest(queries, owner);
        const target = await nodeOf(queries, owner.nodeId);
        if (target === null) throw diskNotFound("disk", id);
        // The row of the disk is locked, so that no reservation adds a hold.
        const isFree = (await queries.get("SELECT FROM holds WHERE volume_id = $1 LIMIT 1", id)) === undefined;
        const takenFrom = requireTakeOver(disk, { from, isFree }, former, target);
        if (from === "lost")
          await queries.run("UPDATE nodes SET shut_out_generation = generation WHERE id = $1", disk.owner.nodeId);
        const taken = await queries.get(
          "UPDATE disks SET node_id = $1, node_generation = $2, taken_from = $3 WHERE id = $4 RETURNING *",
          owner.nodeId,
          owner.generation,
          JSON.stringify(takenFrom),
          id,
        );
        for (const sandbox of await releaseHolders(queries, id))
          await finishSandbox(queries, sandbox.id, "node-lost", nowMs, events.sandbox(sandbox), []);
        await writeEvent(queries, events.disk);
        return toDisk(taken ?? {});
      });
    },

    async settleTakeOver({ id, owner, takenFrom }) {
      const sql = "UPDATE disks SET taken_from = '[]' WHERE id = $1 AND node_id = $2 AND taken_from::text = $3";
      const change = (queries: Queries) => queries.run(sql, id, owner.nodeId, JSON.stringify(takenFrom));
      return (await database.transaction(change)) > 0;
    },
  };
}

async function nodeOf(queries: Queries, id: string, lock = ""): Promise<NodeRecord | null> {
  const row = await queries.get(`SELECT ${NODE_COLUMNS} FROM nodes WHERE id = $1 ${lock}`, id);
  return row === undefined ? null : toNode(row);
}

/** Those of the sandboxes that had the disk and hold nothing now. */
async function releaseHolders(queries: Queries, id: string): Promise<readonly SandboxRecord[]> {
  const holders = await queries.all(
    "SELECT sandboxes.* FROM holds JOIN sandboxes ON sandboxes.id = sandbox_id WHERE volume_id = $1 FOR UPDATE OF sandboxes",
    id,
  );
  await queries.run("DELETE FROM holds WHERE volume_id = $1", id);
  const free: SandboxRecord[] = [];
  for (const sandbox of holders.map(toSandbox)) {
    const other = await queries.get("SELECT FROM holds WHERE sandbox_id = $1 LIMIT 1", sandbox.id);
    if (other === undefined) free.push(sandbox);
  }
  return free;
}
