import type { SandboxRecord } from "@caisson/database";
import { isStopReason, type StopReason } from "@caisson/model";
import type { ExitCause } from "@caisson/node";
import type { AppContext } from "../context.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";
import type { LiveSandbox } from "./live-sandboxes.ts";
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
  // What this server begins from here on, and what it is at, is not judged: a look at the node, or at its row, may be older than that.
  const before = app.live.knownIds();
  const isOfRun = ({ record: { owner: of } }: LiveSandbox) =>
    of.nodeId === owner.nodeId && of.generation === owner.generation;
  const running = app.live.all().filter((live) => live.ending === null && isOfRun(live));
  // In this order: what is there had its row before.
  const present = new Map((await node.listSandboxes()).map(({ id, ownEnd }) => [id, ownEnd]));
  const rows = await app.store.sandboxes.listRunning(owner);
  const strange = rows.filter(({ id }) => !before.has(id) && !app.live.isKnown(id));
  for (const live of running) {
    const ownEnd = present.get(live.record.id);
    if (ownEnd !== null) void endSandbox(app, live, ownEnd ?? "node-lost");
  }
  const known = new Set(rows.map(({ id }) => id));
  for (const id of present.keys()) {
    if (known.has(id) || before.has(id) || app.live.isKnown(id)) continue;
    app.logger.warn({ sandboxId: id, nodeId: owner.nodeId }, "stopping a sandbox that has no row");
    const work = { work: "stop a sandbox without a row", objectId: id };
    // With the connection the work ends: the next one finds what is left.
    void app.persistent.untilDone(work, async () => {
      if (app.nodes.get(owner.nodeId) === connected) await node.stopSandbox(id);
    });
  }
  for (const row of strange) await adopt(app, row, present);
  if (strange.length === 0) return;
  // One that has ended by itself since the look above was not known then to whom the node told it.
  for (const { id, ownEnd } of await node.listSandboxes())
    if (ownEnd !== null) app.live.markExited(owner.nodeId, id, ownEnd);
}

/** Of a sandbox that this server does not know. */
async function adopt(
  app: AppContext,
  record: SandboxRecord,
  present: ReadonlyMap<string, ExitCause | null>,
): Promise<void> {
  const { id } = record;
  const reason = endReason(record, present);
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
