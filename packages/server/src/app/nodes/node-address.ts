import { CaissonError } from "@caisson/model";

export interface NodeAddress {
  readonly host: string;
  readonly port: number;
}

/** Where a node of another machine is reached, from the `HOST:PORT` of its row. Null: it has no port, and is the node of a server's own host. */
export function parseNodeAddress(text: string): NodeAddress | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host === undefined || port === 0 || port > 65_535 ? null : { host, port };
}

/** As `parseNodeAddress`, of a node that is to be connected to. Throws with a reason as the end of a sentence. */
export function requireNodeAddress(text: string): NodeAddress {
  const address = parseNodeAddress(text);
  if (address !== null) return address;
  throw new CaissonError("NODE_UNAVAILABLE", `its address ${JSON.stringify(text)} is not HOST:PORT`);
}
