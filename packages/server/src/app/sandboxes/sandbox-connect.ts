import type { Duplex } from "node:stream";
import { hasErrorCode } from "@caisson/linux";
import type { AppContext } from "../context.ts";
import type { LiveSandbox } from "./live-sandboxes.ts";

/** A connection to the sandbox's agent; it is destroyed when the sandbox is gone. */
export function openAgent(app: Pick<AppContext, "node">, { record }: LiveSandbox): Duplex {
  return app.node.openAgent(record.id);
}

/** Connects to a TCP port inside, as a program there would, or on one `address` of the sandbox's own alone. Null: nothing listens there. */
export async function connectInside(
  app: Pick<AppContext, "node">,
  { record }: LiveSandbox,
  port: number,
  address?: string,
): Promise<Duplex | null> {
  try {
    return await app.node.connectInside(record.id, port, address);
  } catch (error) {
    if (hasErrorCode(error, "ECONNREFUSED", "EADDRNOTAVAIL", "ENETUNREACH", "ETIMEDOUT")) return null;
    throw error;
  }
}
