import type { HasDescriptor } from "./descriptor.ts";
import { callSync } from "./ffi.ts";

const SOL_TCP = 6;
const TCP_INFO = 11;
/** `struct tcp_info` of linux/tcp.h up to the fields that are read here; the kernel fills in as much as there is room for. */
const INFO_BYTES = 64;
const STATE = 0;
const LAST_DATA_RECEIVED_MS = 52;
const LAST_ACK_RECEIVED_MS = 56;
/** States in which the peer has ended its half, or the connection is over (net/tcp_states.h). */
const ENDED_STATES: ReadonlySet<number> = new Set([6, 7, 8, 9, 11]);

export interface TcpPeer {
  /** The peer has closed its half or reset the connection, or the kernel has given it up. */
  readonly hasEnded: boolean;
  /** How long the peer's machine has sent nothing at all, not even an acknowledgement. */
  readonly silentMs: number;
}

/** What the kernel knows of the peer of a TCP connection, also of one that nobody reads from. */
export function readTcpPeer({ fd }: HasDescriptor): TcpPeer {
  const info = Buffer.alloc(INFO_BYTES);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(info.length);
  callSync("getsockopt", [fd, SOL_TCP, TCP_INFO, info, length], {
    name: "TCP information",
    detail: `of descriptor ${fd}`,
  });
  return {
    hasEnded: ENDED_STATES.has(info.readUInt8(STATE)),
    silentMs: Math.min(info.readUInt32LE(LAST_DATA_RECEIVED_MS), info.readUInt32LE(LAST_ACK_RECEIVED_MS)),
  };
}
