import { type Disk, isLost } from "@caisson/database";
import { isDoneWithin, step } from "@caisson/linux";
import type { Actor, AppContext } from "../context.ts";
import { handOver, listShared } from "../disks/disk-take-over.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { END_WAIT_MS, endSandboxSoon } from "../sandboxes/sandbox-end.ts";
import { administratingOrganization } from "./installation-authority.ts";

/** Rows that change in one transaction, which nothing else waits for long. */
const BATCH = 200;

/**
 * Settles what a node had that was given up, which is the intent, and then forgets it. First its sandboxes end, which frees their volumes and the places of their organizations; then its disks are marked as
 * lost, batch by batch, each with its event, but for those in a shared pool, which other nodes take over; the commit takes the node's row away. Every part can be repeated, so that whatever cuts this off is finished by the next start, or a minute later. Forgotten already is success.
 */
export function forgetLostNode(app: AppContext, actor: Actor | null, id: string): Promise<void> {
  return app.locks.run(id, async () => {
    if (((await app.store.nodes.get(id))?.lostAtMs ?? null) === null) return;
    // From here on, what is undone or ended on it has nothing left there.
    app.nodes.lose(id);
    await endSandboxes(app, id);
    await handOverDisks(app, id);
    await loseDisks(app, id);
    const organizationId = actor?.organization.id ?? (await administratingOrganization(app.store));
    const event = auditEvent(actor, "node-forget", { id, organizationId }, { isLost: true });
    await step("node-forget.commit", () => app.store.nodes.forget(id, event));
    app.logger.warn({ nodeId: id }, "forgot a node that is lost, with what it had");
  });
}

/** Finishes what `forgetLostNode` has begun, also of a server before this one. A node that cannot be forgotten yet does not keep the others waiting. */
export async function forgetLostNodes(app: AppContext): Promise<void> {
  for (const { id, lostAtMs } of await app.store.nodes.list())
    if (lostAtMs !== null)
      await forgetLostNode(app, null, id).catch((error: unknown) => {
        app.metrics.countBackgroundError("purge");
        app.logger.error({ err: error, nodeId: id }, "cannot forget a node that is lost yet; it is tried again");
      });
}

async function endSandboxes(app: AppContext, nodeId: string): Promise<void> {
  const left = await app.store.sandboxes.listLeft({ nodeId, generation: Number.MAX_SAFE_INTEGER });
  await Promise.all(
    left.map(async (sandbox) => {
      const { id } = sandbox;
      await isDoneWithin(
        app.live.cancel(id, "node-lost").then(() => true),
        END_WAIT_MS,
      );
      const live = app.live.get(id);
      if (live !== undefined && (await endSandboxSoon(app, live, "node-lost"))) return;
      // Nobody is at its end, or its next try is far away: it finds the row stopped.
      const event = auditEvent(null, "sandbox-end", sandbox, { reason: "node-lost" });
      await step("node-forget.sandbox", () => app.store.sandboxes.finish(id, "node-lost", Date.now(), event));
      if (live === undefined) app.metrics.countEnd("node-lost");
    }),
  );
}

async function handOverDisks(app: AppContext, nodeId: string): Promise<void> {
  for (const disk of await listShared(app, nodeId)) {
    // What was being made is not made any more, and its image is removed by the node that gets it.
    if (disk.state === "creating") await app.store.disks.withdraw(disk.id);
    await handOver(app, disk);
  }
}

async function loseDisks(app: AppContext, nodeId: string): Promise<void> {
  const nowMs = Date.now();
  const purgeAtMs = nowMs + app.config.volumes.retentionMs;
  const eventOf = (disk: Disk) =>
    auditEvent(null, `${disk.kind}-lose`, disk, { slug: disk.slug, nodeId, isReplicated: !isLost(disk) });
  for (let afterSequence = 0; ; ) {
    const batch = { nowMs, purgeAtMs, afterSequence, limit: BATCH };
    const lost = await step("node-forget.disks", () => app.store.disks.lose(nodeId, batch, eventOf));
    const last = lost.at(-1);
    if (last === undefined) return;
    afterSequence = last.sequence;
    for (const disk of lost)
      if (disk.state !== "purging" && isLost(disk)) app.metrics.disksLost.inc({ kind: disk.kind });
  }
}
