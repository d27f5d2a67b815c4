import { constants, type Http2Session } from "node:http2";
import type { Socket } from "node:net";

const TICK_MS = 2_000;
/** So many ticks without a byte from the other side, and it is dead or frozen: 8 to 10 s. */
const SILENT_TICKS = 4;

/**
 * Asks the other side for a sign of life every 2 s; whatever it sends is one, until the session is over: then only the end of the connection is waited for. `onSilent` runs once, when none has come for
 * 8 s. Ticks are counted, not time: a process that stood still itself reads what has come meanwhile before it judges.
 */
export function watchPeer(session: Http2Session, socket: Socket, onSilent: () => void): void {
  let heardBytes = -1;
  let silentTicks = 0;
  const timer = setInterval(() => {
    // A session that is over knows its socket no more.
    const { bytesRead } = socket;
    silentTicks = session.destroyed || bytesRead === heardBytes ? silentTicks + 1 : 0;
    heardBytes = bytesRead;
    if (silentTicks >= SILENT_TICKS) {
      clearInterval(timer);
      onSilent();
    } else if (!session.destroyed) session.ping(() => {});
  }, TICK_MS);
  session.once("close", () => clearInterval(timer));
}

/**
 * Ends a session at once, and its connection, for which a session that was ending by itself would wait. Its streams see that they were cut off, also those of which one half has ended.
 */
export function breakOff(session: Http2Session, socket: Socket): void {
  session.destroy(new Error("the connection was broken off"), constants.NGHTTP2_CANCEL);
  socket.destroy();
}
