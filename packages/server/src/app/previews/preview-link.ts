import { CaissonError } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { requirePreview } from "./preview-get.ts";

export interface LinkOptions {
  /** How long it opens the preview, and how long the browser that followed it may go on. */
  readonly lifetimeMs: number;
  /** Where it leads: a path on the preview. */
  readonly path: string;
}

/** A link that opens a private preview in a browser. Throws `SANDBOX_NOT_FOUND`, `PREVIEW_NOT_FOUND`, and `INVALID_REQUEST` for a public one. */
export async function createPreviewLink(
  app: AppContext,
  actor: Actor,
  sandboxId: string,
  domain: string,
  { lifetimeMs, path }: LinkOptions,
): Promise<{ readonly url: string; readonly expiresAtMs: number }> {
  const preview = await requirePreview(app, actor, sandboxId, domain);
  if (preview.key === null) {
    throw new CaissonError(
      "INVALID_REQUEST",
      "This preview is public: its address is all that anybody needs. Create it as a private one to have links that expire",
    );
  }
  const expiresAtMs = Date.now() + lifetimeMs;
  const url = `https://${app.previews.authorityOf(preview)}${preview.key.signLink(expiresAtMs, path)}`;
  return { url, expiresAtMs };
}
