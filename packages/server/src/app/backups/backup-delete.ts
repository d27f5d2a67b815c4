import { CaissonError } from "@caisson/model";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { requireSnapshotStore } from "./backup-store.ts";

const DELETE_MS = 30_000;

/** Takes a backup out of the store; what only it has there goes with a sweep after the grace. Throws `FORBIDDEN`, `NOT_SUPPORTED` without a store, and `NOT_FOUND`. */
export async function deleteBackup(app: AppContext, actor: Actor, id: string): Promise<void> {
  requireAdmin(actor, "delete backups");
  const { backups } = requireSnapshotStore(app);
  await app.backups.turns.run("backup", async () => {
    const signal = AbortSignal.timeout(DELETE_MS);
    if (!(await backups.delete(id, signal)))
      throw new CaissonError(
        "NOT_FOUND",
        `There is no backup ${JSON.stringify(id.slice(0, 64))} in the snapshot store`,
      );
    app.backups.lastAtMs = (await backups.list(signal))[0]?.atMs ?? null;
  });
  await app.store.events.record(auditEvent(actor, "backup-delete", { id, organizationId: actor.organization.id }));
}
