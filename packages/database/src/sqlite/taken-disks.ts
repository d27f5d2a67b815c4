import { toDisk, toNode, toSandbox } from "../records.ts";
import { diskNotFound } from "../refusals.ts";
import type { DiskStore, NodeRecord, SandboxRecord } from "../store.ts";
import { requireTakeOver } from "../take-over.ts";
import type { Connection } from "./connection.ts";
import { writeEvent } from "./events.ts";
import { requireLatest, SELECT_NODES } from "./nodes.ts";
import { finishSandbox } from "./sandboxes.ts";

type TakenDiskStore = Pick<DiskStore, "takeOver" | "settleTakeOver">;

/** Disks that change their node. */
export function createTakenDiskStore(connection: Connection): TakenDiskStore {
  const nodeOf = (id: string): NodeRecord | null => {
    const row = connection.get(`${SELECT_NODES} WHERE id = ?`, id);
    return row === undefined ? null : toNode(row);
  };

  /** Those of the sandboxes that had the disk and hold nothing now. */
  const releaseHolders = (id: string): readonly SandboxRecord[] => {
    const holders = connection
      .all("SELECT sandboxes.* FROM holds JOIN sandboxes ON sandboxes.id = sandbox_id WHERE volume_id = ?", id)
      .map(toSandbox);
    connection.run("DELETE FROM holds WHERE volume_id = ?", id);
    return holders.filter(
      (sandbox) => connection.get("SELECT 1 FROM holds WHERE sandbox_id = ? LIMIT 1", sandbox.id) === undefined,
    );
  };

  return {
    async takeOver(id, owner, nowMs, events, from = "lost") {
      return connection.transaction(() => {
        const row = connection.get("SELECT * FROM disks WHERE id = ?", id);
        if (row === undefined) throw diskNotFound("disk", id);
        const disk = toDisk(row);
        if (disk.owner.nodeId === owner.nodeId) return disk;
        requireLatest(connection, owner);
        const [former, target] = [nodeOf(disk.owner.nodeId), nodeOf(owner.nodeId)];
        if (target === null) throw diskNotFound("disk", id);
        const isFree = connection.get("SELECT 1 FROM holds WHERE volume_id = ? LIMIT 1", id) === undefined;
        const takenFrom = requireTakeOver(disk, { from, isFree }, former, target);
        if (from === "lost")
          connection.run("UPDATE nodes SET shut_out_generation = generation WHERE id = ?", disk.owner.nodeId);
        const taken = connection.get(
          "UPDATE disks SET node_id = ?, node_generation = ?, taken_from = ? WHERE id = ? RETURNING *",
          owner.nodeId,
          owner.generation,
          JSON.stringify(takenFrom),
          id,
        );
        for (const sandbox of releaseHolders(id))
          finishSandbox(connection, sandbox.id, "node-lost", nowMs, events.sandbox(sandbox), []);
        writeEvent(connection, events.disk);
        return toDisk(taken ?? {});
      });
    },

    async settleTakeOver({ id, owner, takenFrom }) {
      const sql = "UPDATE disks SET taken_from = '[]' WHERE id = ? AND node_id = ? AND taken_from = ?";
      return connection.run(sql, id, owner.nodeId, JSON.stringify(takenFrom)) > 0;
    },
  };
}
