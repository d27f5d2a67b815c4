import { join, resolve } from "node:path";
import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { absentKey } from "@caisson/snapshot-store";
import { readInstallationKeys } from "../../snapshot-store/installation-key.ts";
import { fingerprintOf, isProofOf, NEXT_KEY_FILE } from "../../snapshot-store/key-file.ts";
import { KeyRotationFiles } from "../../snapshot-store/key-rotation.ts";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { requireSnapshotStore } from "./snapshot-store-get.ts";

export interface KeyRotation {
  /** `waiting`: both keys open everything, until the rotation is finished. `finished`: the new one alone does. `checked`: a dry run. */
  readonly outcome: "waiting" | "finished" | "checked";
  /** Keys of organizations. */
  readonly organization_keys: number;
  /** Where the new key lies, below the data directory, until it is the one in use; null: it is, or there is none. */
  readonly new_key_file: string | null;
  /** Where the former key lies, below the data directory; null: this call has replaced none. */
  readonly former_key_file: string | null;
}

/**
 * Makes another key for the installation, and wraps the keys of all organizations by it as well; what those encrypt stays as it is. The key in use stays the one that it was, until somebody shows that he has the new one (`finishKeyRotation`).
 *
 * Intent: the new key in a file of its own. Then every key in the store is wrapped by both, and proven to open with the new one. Commit: the database knows that the rotation waits, with the event; from then on, also after a restart, whatever is written has both
 * wraps. The key in use opens everything throughout, so that a crash and a failure leave nothing to be undone. Run again, it goes on with the same new key, and proves everything anew; where that key is gone, it makes another. Two at once come one after the other.
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
  const nothing = { new_key_file: null, former_key_file: null };
  if (isDryRun) {
    await snapshotStore.requireFree(signal);
    return { outcome: "checked", organization_keys: await snapshotStore.countKeys(signal), ...nothing };
  }
  const rows = app.store.snapshotStore;
  return app.locks.run("installation-key", async () => {
    await snapshotStore.requireUsable(signal);
    const directory = resolve(app.config.dataDirectory);
    const files = new KeyRotationFiles(directory);
    const { current } = await readInstallationKeys(directory, rows);
    const key = await files.prepare(current);
    const commit = async () => {
      await files.requireNext(key);
      const newKeyFingerprint = fingerprintOf(key);
      const { keyRotation } = await rows.get();
      if (keyRotation?.stage === "waiting" && keyRotation.newKeyFingerprint === newKeyFingerprint) return;
      const waiting = { stage: "waiting", newKeyFingerprint, sinceMs: Date.now() } as const;
      const event = auditEvent(actor, "snapshot-store-key-rotate", subjectOf(actor));
      await step("keys-rotate.commit", () => rows.remember({ keyRotation: waiting }, event));
    };
    const keys = await snapshotStore.prepareKey(key, commit, signal);
    app.logger.warn({ keys }, "a rotation of the installation key waits for its finish: export the new key");
    const new_key_file = join("keys", NEXT_KEY_FILE);
    return { ...nothing, outcome: "waiting", organization_keys: keys, new_key_file };
  });
}

/**
 * Uses the new key of a rotation from now on, and takes away what the former one opens, given a proof that the new key is kept elsewhere: what only its text can give (`isProofOf`). A copy of the fingerprint, or a word, would prove nothing of the key.
 *
 * Every key in the store is proven to open with the new one, and a copy of the former one is put aside. Commit: the database knows the new key as the one in use, with the event. Until then the former one is, and opens everything; from then on the new one does, and the next use of the
 * store puts it in its place, if a crash has kept this from doing so. The wraps by the former key are taken away after that, its file gets the name under which it is kept, and the database forgets the rotation last. Run again, with the same proof, it finishes what is left.
 *
 * Throws as `rotateInstallationKey` does, and `INVALID_REQUEST` for what proves nothing of the key that is to be the only one.
 */
export async function finishKeyRotation(
  app: AppContext,
  actor: Actor,
  { proof, signal }: { readonly proof: string; readonly signal: AbortSignal },
): Promise<KeyRotation> {
  requireAdmin(actor, "finish the rotation of the installation key");
  const { snapshotStore } = requireSnapshotStore(app);
  const rows = app.store.snapshotStore;
  return app.locks.run("installation-key", async () => {
    await snapshotStore.requireUsable(signal);
    const directory = resolve(app.config.dataDirectory);
    const files = new KeyRotationFiles(directory);
    const { current, next } = await readInstallationKeys(directory, rows);
    if (next === "absent") throw absentKey("finish the rotation of the installation key");
    const key = next ?? current;
    requireProof(proof, current, next);
    const commit = async () => {
      await files.requireNext(key);
      await files.keepPrevious(current);
      const newKeyFingerprint = fingerprintOf(key);
      const finishing = { stage: "finishing", newKeyFingerprint, sinceMs: Date.now() } as const;
      const changes = { keyFingerprint: newKeyFingerprint, keyRotation: finishing };
      const event = auditEvent(actor, "snapshot-store-key-finish", subjectOf(actor));
      await step("keys-finish.commit", () => rows.remember(changes, event));
      await files.replace(key);
    };
    const keys = await (next === null
      ? snapshotStore.finishKeyChange(signal)
      : snapshotStore.changeKey(next, commit, signal));
    const former = await files.putFormerAway(key);
    await step("keys-finish.forget", () => rows.remember({ keyRotation: null }));
    app.logger.warn({ keys, former }, "the rotation of the installation key is finished");
    return { outcome: "finished", organization_keys: keys, new_key_file: null, former_key_file: former };
  });
}

/** Throws unless the proof is of the key that is to be the only one: `next`, or the key in use where none waits. */
function requireProof(proof: string, current: Buffer, next: Buffer | null): void {
  if (isProofOf(next ?? current, proof)) return;
  const action = "Cannot finish the rotation of the installation key";
  throw new CaissonError(
    "INVALID_REQUEST",
    next === null
      ? `${action}: none waits, and the key that was given is not the one in use. \`caisson keys rotate\` begins one`
      : isProofOf(current, proof)
        ? `${action}: the key that was given is the former one. Give the new one, which \`caisson keys export --new\` prints on the server, from where you keep it`
        : `${action}: the key that was given is neither the new one nor the former one. Export the new one again, by \`caisson keys export --new\` on the server, and keep that`,
  );
}

function subjectOf(actor: Actor): { readonly id: string; readonly organizationId: string } {
  return { id: "snapshot-store", organizationId: actor.organization.id };
}
