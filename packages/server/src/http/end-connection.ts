import type { Duplex } from "node:stream";

/** How long the other side may take to end its connection after this side has. */
const LINGER_MS = 1_000;

/**
 * Ends a connection after what was written to it. What the other side still sends is read and dropped: unread, it would turn the end into a reset,
 * and a client would take a proper close for a broken connection. Connections of HTTP stay half open until the other side ends its half, which it
 * may never do, so that is waited for only shortly.
 */
export function endConnection(socket: Duplex): void {
  if (socket.destroyed) return;
  socket.end();
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once("close", () => clearTimeout(timer));
}
