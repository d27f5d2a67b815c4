import { resolve } from "node:path";
import { step } from "@caisson/linux";
import type { AcceptedStore } from "@caisson/snapshot-store";
import { readUnknownKey, replaceInstallationKey } from "../../snapshot-store/installation-key.ts";
import { keyChangesFor } from "../../snapshot-store/key-rotation.ts";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { requireSnapshotStore } from "./snapshot-store-get.ts";

/**
 * Takes the store of the settings, as it is, for the installation's from now on, by an administrator's word: an empty one, another one, or one that another server with the same key has used, which may not use it any more.
 *
 * The commit comes before the server's mark in the store (`StoreOwnership.accept`): it remembers the store and makes what was `replicated` wait for its upload, which finds what is there already. A crash before or after it leaves the store
 * refused, or as good as before, or accepted, and nothing `replicated` that is not there; the command may be repeated. Where the database is older than the key in the file, as after it was restored from before a rotation, and the store was made with that key, the commit
 * has the database know it. That is so for the new key of a rotation which waits for its finish, too. With `isKeyNew` a key that is lost for good is replaced before; what it has encrypted cannot be read any more. Returns how many snapshots are uploaded again. Throws `FORBIDDEN` unless the actor may
 * administer the server, `NOT_SUPPORTED` without a store, `INVALID_REQUEST` for a new key while the old one is there, and `SNAPSHOT_STORE_UNAVAILABLE` for a store that is away, or was made with another key.
 */
export async function acceptSnapshotStore(
  app: AppContext,
  actor: Actor,
  { isKeyNew, signal }: { readonly isKeyNew: boolean; readonly signal: AbortSignal },
): Promise<number> {
  requireAdmin(actor, "accept a snapshot store");
  const { snapshotStore, url } = requireSnapshotStore(app);
  const rows = app.store.snapshotStore;
  const directory = resolve(app.config.dataDirectory);
  const subject = { id: "snapshot-store", organizationId: actor.organization.id };
  // A rotation puts another key into the file that is compared here.
  const count = await app.locks.run("installation-key", async () => {
    let waiting = 0;
    if (isKeyNew) {
      const keyFingerprint = await replaceInstallationKey(directory, rows);
      const event = auditEvent(actor, "snapshot-store-key", subject);
      const changes = { keyFingerprint, keyRotation: null };
      waiting = await step("snapshot-store-accept.key", () => rows.accept(changes, Date.now(), event));
    }
    const unknown = await readUnknownKey(directory, rows);
    const key = unknown !== null && (await snapshotStore.isMadeWith(unknown, signal)) ? unknown : null;
    const known = key === null ? {} : await keyChangesFor(snapshotStore, key, signal);
    const commit = async (accepted: AcceptedStore) => {
      const { storeId } = accepted;
      const event = auditEvent(actor, "snapshot-store-accept", subject, { url, storeId });
      const changes = { ...accepted, ...known };
      waiting += await step("snapshot-store-accept.commit", () => rows.accept(changes, Date.now(), event));
      app.logger.warn(
        { url, storeId, count: waiting },
        "the snapshot store was accepted: snapshots are uploaded again",
      );
    };
    await snapshotStore.accept(signal, commit, key);
    return waiting;
  });
  app.replicator.wake();
  return count;
}
