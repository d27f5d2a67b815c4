import { resolve } from "node:path";
import { step } from "@caisson/linux";
import { fingerprintOf } from "../../snapshot-store/key-file.ts";
import { KeyRotationFiles } from "../../snapshot-store/key-rotation.ts";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { requireSnapshotStore } from "./snapshot-store-get.ts";

export interface KeyRotation {
  /** `finished`: a rotation that was cut off, and no other key was made. `checked`: a dry run. */
  readonly outcome: "rotated" | "finished" | "checked";
  /** Keys of organizations. */
  readonly organization_keys: number;
  /** Where the former key lies, below the data directory; null: nothing was replaced. */
  readonly former_key_file: string | null;
}

/**
 * Gives the installation another key, and wraps the keys of all organizations by it; what those encrypt stays as it is.
 *
 * Intent: the new key in a file of its own. Then every key in the store is wrapped by both, and proven to open with the new one. Commit: the database knows the fingerprint of the new key, with the event. Until then the former key opens everything, and is in its
 * file; from then on the new one does, and the next use of the store puts it in its place, if a crash has kept this from doing so. The wraps by the former key are taken away after that, and at the end its file gets the name under which it is kept. Run again, it goes on with
 * the same new key, or finishes what is left after the commit. Two at once come one after the other.
 *
 * Throws `FORBIDDEN` unless the actor may administer the server, `NOT_SUPPORTED` without a store, and `SNAPSHOT_STORE_UNAVAILABLE` while the store or the key cannot be used, or a key of an organization opens with neither.
 */
export async function rotateInstallationKey(
  app: AppContext,
  actor: Actor,
  { isDryRun, signal }: { readonly isDryRun: boolean; readonly signal: AbortSignal },
): Promise<KeyRotation> {
  requireAdmin(actor, "rotate the installation key");
  const { snapshotStore } = requireSnapshotStore(app);
  if (isDryRun) {
    await snapshotStore.requireFree(signal);
    return { outcome: "checked", organization_keys: await snapshotStore.countKeys(signal), former_key_file: null };
  }
  return app.locks.run("installation-key", async () => {
    await snapshotStore.requireUsable(signal);
    const files = new KeyRotationFiles(resolve(app.config.dataDirectory));
    const isToBeFinished = await files.isToBeFinished();
    const keys = isToBeFinished
      ? await snapshotStore.finishKeyChange(signal)
      : await changeKey(app, actor, { snapshotStore, files, signal });
    const outcome = isToBeFinished ? "finished" : "rotated";
    const former = await files.putFormerAway();
    app.logger.warn({ keys, outcome, former }, "the installation key was replaced: export it, and keep it elsewhere");
    return { outcome, organization_keys: keys, former_key_file: former };
  });
}

interface Change {
  readonly snapshotStore: ReturnType<typeof requireSnapshotStore>["snapshotStore"];
  readonly files: KeyRotationFiles;
  readonly signal: AbortSignal;
}

async function changeKey(app: AppContext, actor: Actor, { snapshotStore, files, signal }: Change): Promise<number> {
  const key = await files.prepare();
  const subject = { id: "snapshot-store", organizationId: actor.organization.id };
  const commit = async () => {
    await files.keepPrevious(key);
    const event = auditEvent(actor, "snapshot-store-key-rotate", subject);
    const keyFingerprint = fingerprintOf(key);
    await step("keys-rotate.commit", () => app.store.snapshotStore.remember({ keyFingerprint }, event));
    await files.replace(key);
  };
  return snapshotStore.changeKey(key, commit, signal);
}
