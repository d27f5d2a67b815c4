import type { Duplex } from "node:stream";
import { descriptorOf, KernelError, readTcpPeer, type TcpPeer } from "@caisson/linux";

const LOOK_INTERVAL_MS = 1_000;
/** How long an agent may take to end its side of a connection that the client has ended: what the client sent last is still read. */
const HALF_CLOSE_MS = 3_000;
/** The system of a living client answers a keep-alive every 15 s, and the probes of a full window at least every 2 minutes. */
const SILENCE_MAX_MS = 300_000;

type Verdict = "alive" | "ended" | "gone";

/**
 * Ends a client's connection when the client has ended it or is gone, whatever the agent behind it does: one that reads nothing would hide both,
 * because a connection that is not read from says nothing. The kernel is asked instead. `incoming` is what reads it, if that is something else.
 */
export function watchClient(socket: Duplex, incoming: Duplex = socket): void {
  let grace: NodeJS.Timeout | null = null;
  const end = (): void => {
    grace ??= setTimeout(() => socket.destroy(), HALF_CLOSE_MS);
  };
  const look = setInterval(() => {
    const verdict = lookAt(socket);
    if (verdict === "gone") socket.destroy();
    if (verdict === "ended") end();
  }, LOOK_INTERVAL_MS);
  incoming.once("end", end);
  socket.once("close", () => {
    clearInterval(look);
    if (grace !== null) clearTimeout(grace);
  });
}

function lookAt(socket: Duplex): Verdict {
  const descriptor = descriptorOf(socket);
  if (descriptor === null) return "gone";
  try {
    return judgePeer(readTcpPeer(descriptor));
  } catch (error) {
    // The kernel knows of no such connection.
    if (error instanceof KernelError) return "gone";
    throw error;
  }
}

export function judgePeer({ hasEnded, silentMs }: TcpPeer): Verdict {
  if (hasEnded) return "ended";
  return silentMs > SILENCE_MAX_MS ? "gone" : "alive";
}
