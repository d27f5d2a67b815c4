import type { EventEmitter } from "node:events";

/** Resolves when it has closed, however that came about: Node's `once` would reject for a connection that is reset. */
export function closed(what: EventEmitter): Promise<void> {
  return new Promise((resolve) => what.once("close", () => resolve()));
}
