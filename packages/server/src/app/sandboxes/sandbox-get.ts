import type { SandboxRecord } from "@caisson/database";
import { CaissonError } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import type { LiveSandbox } from "./live-sandboxes.ts";

/** The longest that a caller may wait for an end. */
const MAX_WAIT_MS = 30_000;

/** A sandbox of the actor's organization, in any state. Throws `SANDBOX_NOT_FOUND`. */
export async function getSandbox(app: AppContext, actor: Actor, id: string): Promise<SandboxRecord> {
  const sandbox = await app.store.sandboxes.get(actor.organization.id, id);
  if (sandbox === null) throw sandboxNotFound(id);
  return sandbox;
}

/** The sandbox once it has ended, or as it is after 30 seconds. Throws `SANDBOX_NOT_FOUND`. */
export async function waitForSandboxEnd(app: AppContext, actor: Actor, id: string): Promise<SandboxRecord> {
  const sandbox = await getSandbox(app, actor, id);
  const live = app.live.get(sandbox.id);
  if (live === undefined) return sandbox;
  const { promise: timeout, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, MAX_WAIT_MS);
  try {
    await Promise.race([live.ended, timeout]);
  } finally {
    clearTimeout(timer);
  }
  return getSandbox(app, actor, id);
}

/**
 * A sandbox of the actor's organization that runs and is not ending. Throws `SANDBOX_NOT_FOUND`, and `NODE_UNAVAILABLE` for one that runs on a node which this server has not
 * taken up since its start.
 */
export async function requireLiveSandbox(app: AppContext, actor: Actor, id: string): Promise<LiveSandbox> {
  const live = findLiveSandbox(app, actor, id);
  if (live !== null) return live;
  const row = app.live.isKnown(id) ? null : await app.store.sandboxes.get(actor.organization.id, id);
  // It may have been taken up, or have ended, meanwhile.
  const now = findLiveSandbox(app, actor, id);
  if (now !== null) return now;
  if (row?.status !== "running" || app.live.isKnown(id)) throw sandboxNotFound(id);
  app.nodes.of(row);
  throw new CaissonError(
    "NODE_UNAVAILABLE",
    `Cannot use ${id} yet: what runs on its node is being taken up. Try again`,
  );
}

function findLiveSandbox(app: AppContext, actor: Actor, id: string): LiveSandbox | null {
  const live = app.live.get(id);
  const isUsable = live?.ending === null && live.record.organizationId === actor.organization.id;
  return isUsable ? live : null;
}

export function sandboxNotFound(id: string): CaissonError {
  return new CaissonError("SANDBOX_NOT_FOUND", `There is no running sandbox ${JSON.stringify(id.slice(0, 64))}`);
}
