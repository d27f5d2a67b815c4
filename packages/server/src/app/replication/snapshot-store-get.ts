import { resolve } from "node:path";
import type { KeyRotationState } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import { absentKey, type SnapshotStore } from "@caisson/snapshot-store";
import { readNextKey } from "../../snapshot-store/installation-key.ts";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";

/** How long the store may take to answer. */
const ANSWER_MS = 10_000;

/** How the snapshot store stands. */
export interface SnapshotStoreStatus {
  readonly url: string;
  /** Which store has what is `replicated`; null: none is known yet. */
  readonly id: string | null;
  /** Why it cannot be used, with what to do; null: it can. */
  readonly problem: string | null;
  /** Snapshots of all organizations that are `replicated`. */
  readonly replicas: number;
  /** Those that are to be, and of these the ones whose last try failed. */
  readonly waiting: number;
  readonly failing: number;
  /** When the oldest of them was taken, in ISO 8601. */
  readonly oldest_waiting_at: string | null;
  /** When this run of the server brought a snapshot there last; null: it has not. */
  readonly last_upload_at: string | null;
  /** Why the last try of this run failed; null: it did not. */
  readonly last_error: string | null;
  /** A rotation of the installation's key that is not at its end; null: none is under way. */
  readonly key_rotation: KeyRotationStatus | null;
}

export interface KeyRotationStatus {
  /** As of `KeyRotationState`. */
  readonly stage: "waiting" | "finishing";
  /** In ISO 8601. */
  readonly since: string;
  /** What keeps it from being finished on this server, with what to do; null: nothing. */
  readonly problem: string | null;
}

/** Asks the store whether it can be used, and claims it from nobody. Throws `FORBIDDEN` unless the actor may administer the server, and `NOT_SUPPORTED` without a store. */
export async function getSnapshotStore(app: AppContext, actor: Actor): Promise<SnapshotStoreStatus> {
  requireAdmin(actor, "see the snapshot store");
  const { snapshotStore, url } = requireSnapshotStore(app);
  const problem = await problemOf(snapshotStore);
  const { storeId: id, keyRotation } = await app.store.snapshotStore.get();
  const replicas = await app.store.snapshotStore.countReplicas();
  const { waiting, failing, oldestAtMs } = await app.store.snapshotStore.uploadTotals();
  const { lastUploadAtMs, lastError } = app.replicator;
  return {
    ...{ url, id, problem, replicas, waiting, failing },
    oldest_waiting_at: oldestAtMs === null ? null : new Date(oldestAtMs).toISOString(),
    last_upload_at: lastUploadAtMs === null ? null : new Date(lastUploadAtMs).toISOString(),
    last_error: lastError,
    key_rotation: keyRotation === null ? null : await describeRotation(app, keyRotation),
  };
}

export function requireSnapshotStore(app: AppContext): { readonly snapshotStore: SnapshotStore; readonly url: string } {
  const { snapshotStore, config } = app;
  if (snapshotStore !== null && config.snapshotStore !== null) return { snapshotStore, url: config.snapshotStore.url };
  throw new CaissonError(
    "NOT_SUPPORTED",
    "This server has no snapshot store: set snapshot_store.url in its settings, and start it again",
  );
}

async function describeRotation(app: AppContext, rotation: KeyRotationState): Promise<KeyRotationStatus> {
  const { stage, sinceMs } = rotation;
  const since = new Date(sinceMs).toISOString();
  if (stage === "finishing") return { stage, since, problem: null };
  try {
    const next = await readNextKey(resolve(app.config.dataDirectory), rotation);
    if (next !== "absent") return { stage, since, problem: null };
    return { stage, since, problem: absentKey("finish the rotation of the installation key").message };
  } catch (error) {
    if (error instanceof CaissonError) return { stage, since, problem: error.message };
    throw error;
  }
}

async function problemOf(snapshotStore: SnapshotStore): Promise<string | null> {
  const late = AbortSignal.timeout(ANSWER_MS);
  try {
    await snapshotStore.requireFree(late);
    return null;
  } catch (error) {
    if (late.aborted) return `It does not answer within ${ANSWER_MS / 1000} seconds`;
    if (error instanceof CaissonError) return error.message;
    throw error;
  }
}
