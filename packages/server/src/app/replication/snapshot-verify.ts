import { CaissonError } from "@caisson/model";
import { type Actor, type AppContext, requireDisk } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { rehomeIfLost } from "./snapshot-rehome.ts";

/** What there is of a snapshot in one place. `unknown`: there is nothing sound to compare it with. */
export type VerifiedState = "whole" | "damaged" | "missing" | "unknown";

export interface VerifiedSnapshot {
  readonly id: string;
  readonly slug: string;
  readonly store: { readonly state: VerifiedState; readonly problem: string | null };
  readonly pool: { readonly state: VerifiedState; readonly problem: string | null };
  readonly readBytes: number;
}

/**
 * Reads a replicated snapshot whole, in the snapshot store and in its pool, and tells whether each is what was replicated. It mends nothing. Throws `NOT_SUPPORTED` for one that is not replicated: nobody knows what it should
 * be. `signal`: the client has left.
 */
export async function verifySnapshot(
  app: AppContext,
  actor: Actor,
  idOrSlug: string,
  signal: AbortSignal,
): Promise<VerifiedSnapshot> {
  const snapshot = await rehomeIfLost(app, await requireDisk(app, actor, "snapshot", idOrSlug));
  const { id, slug, region, organizationId } = snapshot;
  const { snapshotStore } = app;
  if (snapshotStore === null || snapshot.replication.state !== "replicated")
    throw new CaissonError(
      "NOT_SUPPORTED",
      `Cannot verify snapshot ${JSON.stringify(slug)}: it is not in the snapshot store, so that there is nothing to compare it with. Replicate it first (\`caisson snapshots replicate ${slug}\`)`,
    );
  using _place = app.transfers.take(organizationId);
  const { node } = app.nodes.of(snapshot);
  const isInPool = (await node.getDisk({ region, id })) !== null;
  await using image = isInPool ? await node.exportDisk({ region, id }) : null;
  const { storedProblem, imageState, readBytes } = await snapshotStore.verify({ organizationId, id }, image, signal);
  const store = { state: storedProblem === null ? ("whole" as const) : ("damaged" as const), problem: storedProblem };
  const pool = {
    state: isInPool ? imageState : ("missing" as const),
    problem: problemOf(isInPool ? imageState : "missing"),
  };
  const detail = { slug, store: store.state, pool: pool.state, readBytes };
  await app.store.events.record(auditEvent(actor, "snapshot-verify", snapshot, detail));
  return { id, slug, store, pool, readBytes };
}

function problemOf(state: VerifiedState): string | null {
  const problems = {
    whole: null,
    damaged: "its image in the pool is not what was replicated",
    missing: "it comes back from the snapshot store when it is used",
    unknown: "the store does not tell what it should be",
  };
  return problems[state];
}
