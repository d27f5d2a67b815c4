import { CaissonError } from "@caisson/model";
import type { Node } from "@caisson/node";
import { DEADLINES_MS } from "./methods.ts";

const WHEN = 'Try again when "caisson nodes list" shows it live';

/** Why a call of a node fails that was not answered: always with `NODE_UNAVAILABLE`. */
export class NodeProblems {
  readonly #nodeId: string;

  constructor(nodeId: string) {
    this.#nodeId = nodeId;
  }

  /** `reason` is the end of a sentence. */
  unavailable(reason: string): CaissonError {
    return this.#error(`cannot be reached: ${reason}. ${WHEN}`);
  }

  lost(method: string): CaissonError {
    return this.#error(`was lost before its answer to ${method} came. ${WHEN}`);
  }

  wrong(method: string): CaissonError {
    const advice = "Look at what runs there, and give it the version of the server";
    return this.#error(`gave an answer to ${method} that is not one. ${advice}`);
  }

  late(method: keyof Node): CaissonError {
    const advice = "Look at its log and its disks, and try again";
    return this.#error(
      `did not answer ${method} within ${DEADLINES_MS[method] / 1000} s, and may still be at it. ${advice}`,
    );
  }

  #error(text: string): CaissonError {
    return new CaissonError("NODE_UNAVAILABLE", `Node ${this.#nodeId} ${text}`);
  }
}
