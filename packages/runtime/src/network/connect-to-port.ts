import type { Socket } from "node:net";
import { connectInside, hasErrorCode } from "@caisson/linux";
import type { PreparedNamespaces } from "./namespaces.ts";

const LOOPBACK = ["127.0.0.1", "::1"];

/** Connects to a port inside, on the first of its addresses that takes the connection (`RunningSandbox.connect`). */
export async function connectToPort(
  { network, slot }: PreparedNamespaces,
  port: number,
  address?: string,
): Promise<Socket> {
  const addresses = [...LOOPBACK, slot.address];
  const chosen = address === undefined || isOwn(address, slot.address) ? address : undefined;
  let refusal: unknown;
  for (const candidate of chosen === undefined ? addresses : [chosen]) {
    try {
      return await connectInside(network, candidate, port);
    } catch (error) {
      if (!hasErrorCode(error, "ECONNREFUSED", "EADDRNOTAVAIL", "ENETUNREACH")) throw error;
      refusal ??= error;
    }
  }
  throw refusal;
}

/** An address that only the sandbox itself can be behind, whoever names it. */
function isOwn(address: string, ownAddress: string): boolean {
  return address === ownAddress || address === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(address);
}
