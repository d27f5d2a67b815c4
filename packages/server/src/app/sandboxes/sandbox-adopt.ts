import type { SandboxRecord } from "@caisson/database";
import { isStopReason, type StopReason } from "@caisson/model";
import type { ExitCause } from "@caisson/node";
import type { AppContext } from "../context.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";
import { endAt, endSandbox } from "./sandbox-end.ts";
import { goLive } from "./sandbox-live.ts";
import { releaseSandbox } from "./sandbox-release.ts";

/**
 * Goes on with the sandboxes of a node's run when the connection to it stands, by comparing what is there with the rows. What runs and has a row goes on: until its time, or, of a session, not
 * at all, because its creator's connection went with the server or the link. What has a row and is not there, and what was being created by a server that is gone, ends. What is
 * there without a row is stopped.
 *
 * Every end is one of `endSandbox`, with its steps. A crash in here is settled by the next connection, which does the same.
 */
export async function adoptSandboxes(app: AppContext, connected: ConnectedNode): Promise<void> {
  const { owner, node } = connected;
  // In this order: what is there had its row before.
  const present = new Map((await node.listSandboxes()).map(({ id, ownEnd }) => [id, ownEnd]));
  const rows = await app.store.sandboxes.listRunning(owner);
  for (const row of rows) await adopt(app, row, present);
  const known = new Set(rows.map(({ id }) => id));
  for (const id of present.keys()) {
    if (known.has(id) || app.live.isKnown(id)) continue;
    app.logger.warn({ sandboxId: id, nodeId: owner.nodeId }, "stopping a sandbox that has no row");
    const work = { work: "stop a sandbox without a row", objectId: id };
    // With the connection the work ends: the next one finds what is left.
    void app.persistent.untilDone(work, async () => {
      if (app.nodes.get(owner.nodeId) === connected) await node.stopSandbox(id);
    });
  }
}

async function adopt(
  app: AppContext,
  record: SandboxRecord,
  present: ReadonlyMap<string, ExitCause | null>,
): Promise<void> {
  const { id } = record;
  const known = app.live.get(id);
  // Whoever creates or ends it goes on by themselves.
  if (app.live.isBeingCreated(id) || app.live.ending(id) !== undefined) return;
  const reason = endReason(record, present);
  if (known !== undefined) {
    if (reason !== null) void endSandbox(app, known, reason);
    return;
  }
  const volumeIds = (await app.store.sandboxes.holds(id)).map(({ volumeId }) => volumeId);
  const live = goLive(app, { record, volumeIds, release: () => releaseSandbox(app, record) });
  if (reason !== null) void endSandbox(app, live, reason);
  else if (live.mode === "session") endAt(app, live, live.keepUntilMs, "primary-left");
  app.logger.info({ sandboxId: id, reason }, reason === null ? "a sandbox goes on" : "a sandbox ends");
}

/** Why it cannot go on; null: it can. */
function endReason(
  { id, status, stopReason }: SandboxRecord,
  present: ReadonlyMap<string, ExitCause | null>,
): StopReason | null {
  // Its end, or its creation, was cut off together with the server that was at it.
  if (status === "stopping") return isStopReason(stopReason) ? stopReason : "server-restart";
  if (status === "starting") return "server-restart";
  const ownEnd = present.get(id);
  return ownEnd === undefined ? "node-lost" : ownEnd;
}
