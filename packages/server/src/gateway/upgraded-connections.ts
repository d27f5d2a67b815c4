import type { Duplex } from "node:stream";
import { endConnection } from "../http/end-connection.ts";

/** The connections that clients upgraded or wanted to: the HTTP server waits for them when it closes, and no longer knows them. */
export class UpgradedConnections {
  readonly #open = new Set<Duplex>();
  #isClosed = false;

  get count(): number {
    return this.#open.size;
  }

  add(socket: Duplex): void {
    // A client may vanish at any time; what that means is decided where its connection is used.
    socket.on("error", () => {});
    this.#open.add(socket);
    socket.once("close", () => this.#open.delete(socket));
    if (this.#isClosed) socket.destroy();
  }

  /** Ends what is left, and what still comes. */
  close(): void {
    this.#isClosed = true;
    for (const socket of this.#open) endConnection(socket);
  }
}
