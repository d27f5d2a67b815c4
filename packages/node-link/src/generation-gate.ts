import type { IncomingHttpHeaders } from "node:http2";
import { CaissonError } from "@caisson/model";

export const RUN_HEADER = "caisson-run";
export const GENERATION_HEADER = "caisson-generation";
export const TERM_HEADER = "caisson-term";

/**
 * Lets in the calls of the latest generation that this run of the node has heard of, and of the server that leads the installation last: one that was frozen while another took its place may
 * still have calls to make.
 */
export class GenerationGate {
  readonly runId: string;
  #latest = 0;
  #latestTerm = -1;

  constructor(runId: string) {
    this.runId = runId;
  }

  /**
   * Returns whether it is the first call of a server that leads anew. Throws `NODE_UNAVAILABLE` for a call that was meant for another run of this node, or comes from an older generation or an older
   * term of leading.
   */
  admit(headers: IncomingHttpHeaders): boolean {
    const run = headers[RUN_HEADER];
    const generation = Number(headers[GENERATION_HEADER]);
    // A server from before servers stood by does not say it.
    const term = Number(headers[TERM_HEADER] ?? 0);
    if (run !== this.runId)
      throw new CaissonError(
        "NODE_UNAVAILABLE",
        "The node was started again meanwhile: try again when what ran there before is settled",
      );
    if (!Number.isSafeInteger(generation) || generation < 1)
      throw new CaissonError("NODE_UNAVAILABLE", "The call does not say of which generation of the node it is");
    if (!Number.isSafeInteger(term) || term < 0)
      throw new CaissonError("NODE_UNAVAILABLE", "The call does not say rightly in which term its server leads");
    if (term < this.#latestTerm)
      throw new CaissonError(
        "NODE_UNAVAILABLE",
        `The call is of term ${term}, and a server of term ${this.#latestTerm} leads this installation now: this one has to stand by. If the database was restored from a backup, start the node again`,
      );
    if (generation < this.#latest)
      throw new CaissonError(
        "NODE_UNAVAILABLE",
        `The call is of generation ${generation} of the node, which generation ${this.#latest} has replaced: another server leads this node now. If the database was restored from a backup, start the node again`,
      );
    this.#latest = generation;
    const isNew = term > this.#latestTerm;
    this.#latestTerm = term;
    return isNew;
  }
}
