import { Budget, budgetBytes } from "./budget.ts";

/** Answers that may be in the making at a time on all connections, of those that take much memory. Each takes up to about a megabyte. */
const MAX_TURNS = 32;

/**
 * What all connections of the agent may hold in memory together, so that the agent stays small in a sandbox whose memory is for the user's
 * programs. Each part is served by itself, because what waits for one of them never holds another: what a client sends and nobody reads goes
 * to the disk when `messages` is used up, while requests and answers wait, and end by themselves.
 */
export interface AgentMemory {
  /** Bytes of large messages, and of streams that nobody has read yet. */
  readonly messages: Budget;
  /** Bytes of the requests that are being run. */
  readonly calls: Budget;
  /** Answers that are being made (`Call.inTurn`). */
  readonly turns: Budget;
}

export function agentMemory(memoryLimitBytes: number | null): AgentMemory {
  const bytes = budgetBytes(memoryLimitBytes);
  return { messages: new Budget(bytes), calls: new Budget(bytes), turns: new Budget(MAX_TURNS) };
}
