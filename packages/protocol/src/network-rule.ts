import { isIPv4, isIPv6 } from "node:net";
import { CaissonError } from "@caisson/model";

/** One destination of `allow_net` (protocol.md 5.7). `port` null: any port. */
export interface NetworkRule {
  /** `subdomains`: any name below `host`, not `host` itself. */
  readonly kind: "host" | "subdomains" | "ipv4" | "ipv6";
  /** Lower case, without the leading `*.` and without brackets. */
  readonly host: string;
  readonly port: number | null;
}

const HOST_LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/;
const MAX_HOST_LENGTH = 253;

/** Reads `host`, `*.host`, `a.b.c.d` or `[ipv6]`, each with an optional `:port`. Throws `INVALID_CONFIG`. */
export function parseNetworkRule(text: string): NetworkRule {
  const match = /^(\[[^\]]*\]|[^:[\]]*)(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[1]?.toLowerCase() ?? "";
  const port = match?.[2] === undefined ? null : Number(match[2]);
  if (match === null || (port !== null && (port < 1 || port > 65_535))) throw invalidRule(text);
  if (host.startsWith("[")) {
    const address = host.slice(1, -1);
    if (!isIPv6(address) || address.includes("%")) throw invalidRule(text);
    return { kind: "ipv6", host: address, port };
  }
  if (isIPv4(host)) return { kind: "ipv4", host, port };
  const isWildcard = host.startsWith("*.");
  const name = isWildcard ? host.slice(2) : host;
  if (!isHostName(name)) throw invalidRule(text);
  return { kind: isWildcard ? "subdomains" : "host", host: name, port };
}

/** A name whose last label is all digits would be a mistyped address, so it is refused. */
export function isHostName(name: string): boolean {
  const labels = name.split(".");
  return (
    name.length <= MAX_HOST_LENGTH &&
    labels.every((label) => HOST_LABEL.test(label)) &&
    !/^\d+$/.test(labels.at(-1) ?? "")
  );
}

function invalidRule(text: string): CaissonError {
  return new CaissonError(
    "INVALID_CONFIG",
    `Invalid destination ${JSON.stringify(text.slice(0, 64))} in "allow_net": ` +
      `give a host, "*.host", an IPv4 address or "[IPv6 address]", each with an optional ":port"`,
  );
}
