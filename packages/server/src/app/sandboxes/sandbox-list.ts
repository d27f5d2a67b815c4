import type { SandboxRecord } from "@caisson/database";
import type { Labels } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";

const MAX_LISTED = 1000;

/** The organization's sandboxes with all of these labels: live ones first, then those that ended lately, each newest first. */
export async function listSandboxes(app: AppContext, actor: Actor, labels: Labels): Promise<readonly SandboxRecord[]> {
  return app.store.sandboxes.list(actor.organization.id, MAX_LISTED, labels);
}
