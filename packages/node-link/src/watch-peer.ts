import { constants, type Http2Session } from "node:http2";

const TICK_MS = 2_000;
/** So many ticks without a byte from the other side, and it is dead or frozen: 8 to 10 s. */
const SILENT_TICKS = 4;

/**
 * Asks the other side for a sign of life every 2 s; whatever it sends is one. `onSilent` runs once, when none has come for 8 s. Ticks are
 * counted, not time: a process that stood still itself reads what has come meanwhile before it judges.
 */
export function watchPeer(session: Http2Session, onSilent: () => void): void {
  let heardBytes = -1;
  let silentTicks = 0;
  const timer = setInterval(() => {
    // Between its end and the event of that a session has no socket.
    if (session.destroyed) return clearInterval(timer);
    const { bytesRead } = session.socket;
    silentTicks = bytesRead === heardBytes ? silentTicks + 1 : 0;
    heardBytes = bytesRead;
    if (silentTicks >= SILENT_TICKS) {
      clearInterval(timer);
      onSilent();
    } else session.ping(() => {});
  }, TICK_MS);
  session.once("close", () => clearInterval(timer));
}

/** Ends a session at once. Its streams see that they were cut off, also those of which one half has ended. */
export function breakOff(session: Http2Session): void {
  session.destroy(new Error("the connection was broken off"), constants.NGHTTP2_CANCEL);
}
