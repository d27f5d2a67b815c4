import { CaissonError } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { requireLiveSandbox } from "../sandboxes/sandbox-get.ts";
import type { Preview } from "./preview.ts";

/** The previews of a running sandbox, oldest first. Throws `SANDBOX_NOT_FOUND`. */
export async function listPreviews(app: AppContext, actor: Actor, sandboxId: string): Promise<readonly Preview[]> {
  return app.previews.of((await requireLiveSandbox(app, actor, sandboxId)).record.id);
}

/** A preview of a sandbox of the actor's organization, by its domain. Throws `SANDBOX_NOT_FOUND` or `PREVIEW_NOT_FOUND`. */
export async function requirePreview(
  app: AppContext,
  actor: Actor,
  sandboxId: string,
  domain: string,
): Promise<Preview> {
  const sandbox = await requireLiveSandbox(app, actor, sandboxId);
  const preview = app.previews.find(domain);
  if (preview?.sandbox === sandbox) return preview;
  throw new CaissonError(
    "PREVIEW_NOT_FOUND",
    `Sandbox ${sandboxId} has no preview ${JSON.stringify(domain.slice(0, 256))}: see those it has with "caisson previews list"`,
  );
}
