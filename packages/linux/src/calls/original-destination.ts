import type { HasDescriptor } from "./descriptor.ts";
import { call } from "./ffi.ts";

const SOL_IP = 0;
/** linux/netfilter_ipv4.h */
const SO_ORIGINAL_DST = 80;
const SOCKADDR_IN_BYTES = 16;

export interface Ipv4Endpoint {
  readonly address: string;
  readonly port: number;
}

/** Where an accepted IPv4 connection was going before the host's packet filter redirected it here. One that was not redirected is `ENOENT`. */
export async function readOriginalDestination({ fd }: HasDescriptor, detail: string): Promise<Ipv4Endpoint> {
  const name = Buffer.alloc(SOCKADDR_IN_BYTES);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(name.length);
  await call("getsockopt", [fd, SOL_IP, SO_ORIGINAL_DST, name, length], { name: "original destination", detail });
  // The family is in the host's byte order, port and address are in the network's (ip(7)).
  return { port: name.readUInt16BE(2), address: name.subarray(4, 8).join(".") };
}
