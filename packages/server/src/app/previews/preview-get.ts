import { CaissonError } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { requireLiveSandbox } from "../sandboxes/sandbox-get.ts";
import type { Preview } from "./preview.ts";

/** The previews of a running sandbox, oldest first. Throws `SANDBOX_NOT_FOUND`. */
export function listPreviews(app: AppContext, actor: Actor, sandboxId: string): readonly Preview[] {
  return app.previews.of(requireLiveSandbox(app, actor, sandboxId).record.id);
}

/** A preview of a sandbox of the actor's organization, by its domain. Throws `SANDBOX_NOT_FOUND` or `PREVIEW_NOT_FOUND`. */
export function requirePreview(app: AppContext, actor: Actor, sandboxId: string, domain: string): Preview {
  const sandbox = requireLiveSandbox(app, actor, sandboxId);
  const preview = app.previews.find(domain);
  if (preview?.sandbox === sandbox) return preview;
  throw new CaissonError(
    "PREVIEW_NOT_FOUND",
    `Sandbox ${sandboxId} has no preview ${JSON.stringify(domain.slice(0, 256))}: see those it has with "caisson previews list"`,
  );
}
