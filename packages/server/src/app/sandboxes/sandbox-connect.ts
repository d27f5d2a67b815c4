import { Duplex } from "node:stream";
import { hasErrorCode } from "@caisson/linux";
import type { AppContext } from "../context.ts";
import type { LiveSandbox } from "./live-sandboxes.ts";

/** A connection to the sandbox's agent; it is destroyed when the sandbox is gone, and with `NODE_UNAVAILABLE` where its node cannot be reached. */
export function openAgent(app: Pick<AppContext, "nodes">, { record }: LiveSandbox): Duplex {
  const connected = app.nodes.find(record);
  if (connected !== null) return connected.node.openAgent(record.id);
  return new Duplex({ read() {} }).on("error", () => {}).destroy(app.nodes.unavailable(record));
}

/** As `openAgent`, but throws `NODE_UNAVAILABLE`. */
export function requireAgent(app: Pick<AppContext, "nodes">, { record }: LiveSandbox): Duplex {
  return app.nodes.of(record).node.openAgent(record.id);
}

/** Connects to a TCP port inside, as a program there would, or on one `address` of the sandbox's own alone. Null: nothing listens there. Throws `NODE_UNAVAILABLE`. */
export async function connectInside(
  app: Pick<AppContext, "nodes">,
  { record }: LiveSandbox,
  port: number,
  address?: string,
): Promise<Duplex | null> {
  try {
    return await app.nodes.of(record).node.connectInside(record.id, port, address);
  } catch (error) {
    if (hasErrorCode(error, "ECONNREFUSED", "EADDRNOTAVAIL", "ENETUNREACH", "ETIMEDOUT")) return null;
    throw error;
  }
}
