import type { Disk } from "@caisson/database";
import { step } from "@caisson/linux";
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
  /** Its copy is damaged, its image is whole, and is uploaded again. */
  readonly isRenewed: boolean;
}

/**
 * Reads a replicated snapshot whole, in the snapshot store and in its pool, and tells whether each is what was replicated. A copy that is damaged is uploaded again from an image that is whole; nothing else is mended. Throws `NOT_SUPPORTED` for one that is not replicated: nobody knows what it should
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
  const lookedUp = await node.getDisk({ region, id }).catch(unusable);
  await using image =
    lookedUp === null || lookedUp instanceof CaissonError ? null : await node.exportDisk({ region, id });
  const digest = snapshot.replication.result?.imageDigest ?? null;
  const found = await snapshotStore.verify({ organizationId, id }, image, digest, signal);
  const { storedProblem, imageState, readBytes } = found;
  const store = { state: storedProblem === null ? ("whole" as const) : ("damaged" as const), problem: storedProblem };
  const poolState = lookedUp === null ? ("missing" as const) : imageState;
  const pool = {
    state: poolState,
    problem: lookedUp instanceof CaissonError ? lookedUp.message : problemOf(poolState),
  };
  const isRenewed = store.state === "damaged" && pool.state === "whole" && (await renew(app, actor, snapshot));
  const detail = { slug, store: store.state, pool: pool.state, readBytes, isRenewed };
  await app.store.events.record(auditEvent(actor, "snapshot-verify", snapshot, detail));
  return { id, slug, store, pool, readBytes, isRenewed };
}

/** A disk that is away tells why, and the copy in the store can be read all the same. */
function unusable(error: unknown): CaissonError {
  if (error instanceof CaissonError && error.code === "DISK_UNAVAILABLE") return error;
  throw error;
}

async function renew(app: AppContext, actor: Actor, snapshot: Disk): Promise<boolean> {
  const event = auditEvent(actor, "snapshot-replicate", snapshot, { slug: snapshot.slug, reason: "damaged" });
  const isRenewed = await step("snapshot-verify.renew", () =>
    app.store.disks.renewReplication(snapshot.id, Date.now(), event),
  );
  app.replicator.wake();
  return isRenewed;
}

function problemOf(state: VerifiedState): string | null {
  const problems = {
    whole: null,
    damaged: "its image in the pool is not what was replicated",
    missing: "it comes back from the snapshot store when it is used",
    unknown: "nothing tells what it should be",
  };
  return problems[state];
}
