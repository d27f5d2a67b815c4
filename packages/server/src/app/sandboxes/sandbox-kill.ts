import type { SandboxRecord } from "@caisson/database";
import { isDoneWithin } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { END_WAIT_MS, endSandbox } from "./sandbox-end.ts";
import { getSandbox, sandboxNotFound } from "./sandbox-get.ts";

/**
 * Ends a sandbox of the actor's organization, also one that is still being created. Resolves to `stopped` when its volumes are free, and to
 * `stopping` when the end takes longer than a caller should wait: it goes on until it is done. Throws `SANDBOX_NOT_FOUND` for one that has ended,
 * and `DATA_LOST` when it is over, the volumes are free, and something that was written to them is lost.
 */
export async function killSandbox(app: AppContext, actor: Actor, id: string): Promise<"stopped" | "stopping"> {
  const sandbox = await getSandbox(app, actor, id);
  if (sandbox.status === "stopped") throw sandboxNotFound(id);
  const damages: string[] = [];
  if (!(await isDoneWithin(kill(app, sandbox, damages), END_WAIT_MS))) return "stopping";
  if (damages.length === 0) return "stopped";
  throw new CaissonError(
    "DATA_LOST",
    `Sandbox ${id} has ended, but not well. ${damages.join(". ")}. Check the files, then acknowledge with "caisson volumes acknowledge"`,
  );
}

/** Resolves to whether nothing of the sandbox is left, and adds what its end has found wrong. */
async function kill(app: AppContext, { id, organizationId }: SandboxRecord, damages: string[]): Promise<boolean> {
  await app.live.cancel(id, "killed");
  const live = app.live.get(id);
  if (live !== undefined) {
    const isDone = await endSandbox(app, live, "killed");
    damages.push(...live.damages);
    return isDone;
  }
  const ending = app.live.ending(id);
  if (ending !== undefined) return ending;
  const now = await app.store.sandboxes.get(organizationId, id);
  if (now === null || now.status === "stopped") return now?.status === "stopped";
  // Left over from an earlier run: its node or region is missing, its end is being tried again, or it is about to be taken up, which ends what is to end.
  app.nodes.of(now);
  await app.store.sandboxes.beginEnd(id, "killed");
  const taken = app.live.get(id);
  return taken === undefined ? false : endSandbox(app, taken, "killed");
}
