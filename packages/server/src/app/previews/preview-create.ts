import { step } from "@caisson/linux";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { requireLiveSandbox, sandboxNotFound } from "../sandboxes/sandbox-get.ts";
import type { Preview, PreviewTarget } from "./preview.ts";
import { PreviewKey } from "./preview-key.ts";

export interface NewPreview {
  /** Null: the client says it later, by the RPC `exposeHttp`. */
  readonly target: PreviewTarget | null;
  readonly isPrivate: boolean;
  readonly isHostRewritten: boolean;
}

/**
 * Reserves a name for a server inside a sandbox (protocol.md 2.5), and binds it where the target is known. A private one comes with its token, which
 * is shown this once. The event is written first: a name that is handed out is on record. After a failure there is no name. Throws
 * `SANDBOX_NOT_FOUND`, `CONCURRENCY_LIMIT_EXCEEDED`, and `SANDBOX_START_FAILED` when the agent does not answer.
 */
export async function createPreview(
  app: AppContext,
  actor: Actor,
  sandboxId: string,
  { target, isPrivate, isHostRewritten }: NewPreview,
): Promise<{ readonly preview: Preview; readonly token: string | null }> {
  const sandbox = await requireLiveSandbox(app, actor, sandboxId);
  app.previews.requireRoom(sandbox);
  // Before the client is answered: its next call is the RPC, which needs it.
  await app.previews.openLink(sandbox);
  const { key, token } = isPrivate ? PreviewKey.create() : { key: null, token: null };
  const label = app.previews.newLabel();
  const event = auditEvent(actor, "preview-create", sandbox.record, { label: label.slice(0, 4), isPrivate });
  await step("preview-create.commit", () => app.store.events.record(event));
  if (sandbox.ending !== null) throw sandboxNotFound(sandboxId);
  app.previews.requireRoom(sandbox);
  const preview: Preview = { label, sandbox, target, key, isHostRewritten, createdAtMs: Date.now() };
  app.previews.add(preview);
  return { preview, token };
}
