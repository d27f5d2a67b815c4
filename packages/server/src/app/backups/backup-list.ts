import { CaissonError } from "@caisson/model";
import type { ListedBackup } from "@caisson/snapshot-store";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { requireSnapshotStore } from "./backup-store.ts";

/** The longest that a list waits for the store. */
const LIST_MS = 10_000;

export interface BackupOverview {
  /** How often there is to be one; null: only when somebody asks for it. */
  readonly everyMs: number | null;
  /** Why the last try failed; null: it did not. */
  readonly failure: { readonly message: string; readonly atMs: number } | null;
  /** What an administrator must see to: the newest one is too old, or there is none; null: nothing. */
  readonly problem: string | null;
  /** The newest first. */
  readonly backups: readonly ListedBackup[];
}

/** What backups the store has, and how the last one went. A store that is away is a problem that is told, and no failure. Throws `FORBIDDEN`, and `NOT_SUPPORTED` without a store. */
export async function listBackups(app: AppContext, actor: Actor): Promise<BackupOverview> {
  requireAdmin(actor, "see the backups");
  const store = requireSnapshotStore(app);
  const everyMs = app.config.snapshotStore?.backupEveryMs ?? null;
  const { failure } = app.backups;
  try {
    const backups = await store.backups.list(AbortSignal.timeout(LIST_MS));
    return { everyMs, failure, problem: problemOf(backups[0]?.atMs ?? null, everyMs, Date.now()), backups };
  } catch (error) {
    app.logger.warn({ err: error }, "cannot list the backups");
    const said = error instanceof CaissonError ? error.message : "the snapshot store does not answer";
    return { everyMs, failure, problem: `nobody knows how old the newest backup is: ${said}`, backups: [] };
  }
}

/** Which sentence says that the newest backup is too old, where one may be missed and two may not, or from the future. */
export function problemOf(newestAtMs: number | null, everyMs: number | null, nowMs: number): string | null {
  if (everyMs === null) return null;
  if (newestAtMs === null) return "there is no backup yet";
  const ageMs = nowMs - newestAtMs;
  if (ageMs < -60_000)
    return `the newest backup is from the future (${new Date(newestAtMs).toISOString()}): a clock was wrong, or is. Set it, delete what is from the future (\`caisson backup delete ID\`), and make one (\`caisson backup create\`)`;
  if (ageMs <= 3 * Math.max(everyMs, 60_000)) return null;
  const [minutes, every] = [ageMs, everyMs].map((ms) => Math.ceil(ms / 60_000));
  return `the newest backup is ${minutes} minutes old, and there is to be one every ${every}`;
}
