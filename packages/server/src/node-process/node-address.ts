import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import { CaissonError } from "@caisson/model";
import { type NodeAddress, parseNodeAddress } from "../app/nodes/node-address.ts";

const DEFAULT_PORT = 8485;

/** Where the server reaches this machine, and where that is listened on: at that address if this machine has it, else, as behind a translation of addresses or for a name, at all. */
export interface OwnAddress extends NodeAddress {
  /** `HOST:PORT`. */
  readonly text: string;
  /** Null: every address. */
  readonly listenHost: string | null;
}

/** `given`: `HOST` or `HOST:PORT`; null: the first address of this machine that others may reach. Throws `INVALID_CONFIG`. */
export function ownAddress(given: string | null): OwnAddress {
  const addresses = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  const outward = addresses.filter(({ internal, scopeid }) => !internal && !scopeid);
  const first = outward.find(({ family }) => family === "IPv4") ?? outward[0];
  const text = given ?? first?.address;
  if (text === undefined)
    throw new CaissonError(
      "INVALID_CONFIG",
      "This machine has no address but loopback: say with --address HOST:PORT where the server reaches it",
    );
  const parsed = isIP(text) === 0 ? parseNodeAddress(text) : null;
  const address = parsed ?? { host: text.replace(/^\[|\]$/g, ""), port: DEFAULT_PORT };
  const { host, port } = address;
  if (isIP(host) === 0 && !/^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/.test(host))
    throw new CaissonError(
      "INVALID_CONFIG",
      `The address ${JSON.stringify(text)} is none: give HOST or HOST:PORT, for example 10.0.0.2:${DEFAULT_PORT}`,
    );
  const isOwn = addresses.some((own) => own.address === host);
  return { host, port, text: `${host.includes(":") ? `[${host}]` : host}:${port}`, listenHost: isOwn ? host : null };
}
