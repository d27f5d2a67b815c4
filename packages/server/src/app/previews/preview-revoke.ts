import { step } from "@caisson/linux";
import type { Actor, AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { requirePreview } from "./preview-get.ts";

/**
 * Ends a preview and every connection through it. It is closed before the event is written: after a failure it may be closed without a line that
 * tells of it, but never open with one that says otherwise. Throws `SANDBOX_NOT_FOUND` or `PREVIEW_NOT_FOUND`.
 */
export async function revokePreview(app: AppContext, actor: Actor, sandboxId: string, domain: string): Promise<void> {
  const preview = await requirePreview(app, actor, sandboxId, domain);
  app.previews.remove(preview);
  const event = auditEvent(actor, "preview-revoke", preview.sandbox.record, { label: preview.label.slice(0, 4) });
  await step("preview-revoke.event", () => app.store.events.record(event));
}
