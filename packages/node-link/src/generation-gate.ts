import type { IncomingHttpHeaders } from "node:http2";
import { CaissonError } from "@caisson/model";

export const RUN_HEADER = "caisson-run";
export const GENERATION_HEADER = "caisson-generation";

/** Lets in the calls of the latest generation that this run of the node has heard of. */
export class GenerationGate {
  readonly runId: string;
  #latest = 0;

  constructor(runId: string) {
    this.runId = runId;
  }

  /** Throws `NODE_UNAVAILABLE` for a call that was meant for another run of this node, or comes from an older generation. */
  admit(headers: IncomingHttpHeaders): void {
    const run = headers[RUN_HEADER];
    const generation = Number(headers[GENERATION_HEADER]);
    if (run !== this.runId)
      throw new CaissonError(
        "NODE_UNAVAILABLE",
        "The node was started again meanwhile: try again when what ran there before is settled",
      );
    if (!Number.isSafeInteger(generation) || generation < 1)
      throw new CaissonError("NODE_UNAVAILABLE", "The call does not say of which generation of the node it is");
    if (generation < this.#latest)
      throw new CaissonError(
        "NODE_UNAVAILABLE",
        `The call is of generation ${generation} of the node, which generation ${this.#latest} has replaced: another server leads this node now. If the database was restored from a backup, start the node again`,
      );
    this.#latest = generation;
  }
}
