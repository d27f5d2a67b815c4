import type { ServerChannel } from "ssh2";

/** RFC 4254 names no least size. Clients that are known take 32 KiB. */
const PACKET_BYTES_MIN = 1024;

/**
 * Whether a client takes packets of a sensible size on a channel. The library cuts what it sends into pieces of the size that the client asked for, in
 * one go: pieces of one byte would cost the server's one thread seconds for each, and those of none would never end.
 */
export function takesPackets(channel: ServerChannel): boolean {
  const { packetSize } = channel.outgoing as { readonly packetSize: number };
  return packetSize >= PACKET_BYTES_MIN;
}
