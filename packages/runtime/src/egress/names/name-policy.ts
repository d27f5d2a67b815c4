import type { ClosedAddresses } from "../closed-addresses.ts";
import type { EgressSandbox } from "../egress-sandbox.ts";
import { portsOf } from "../policy.ts";
import { type NameAnswer, RCODE } from "./name-forwarder.ts";
import { resolveName } from "./name-resolver.ts";

/** Longest time to live that is handed on, so that no grant must last longer. */
const TTL_SECONDS_MAX = 3600;
const ADDRESSES_MAX = 64;

export interface NamePolicyOptions {
  readonly resolvers: readonly string[];
  readonly closed: ClosedAddresses;
  /** How long an address stays open at least, for clients that keep it longer than the name server said. */
  readonly grantSecondsMin: number;
}

/**
 * Answers one question of a restricted sandbox. A name that its policy does not have does not exist for it, and nobody outside hears of the
 * question. Of an allowed name it learns the public IPv4 addresses, and these are open before it learns them; for other record types the
 * answer is that there are none, which makes programs use IPv4.
 */
export async function answerByPolicy(
  sandbox: EgressSandbox,
  name: string,
  type: string,
  { resolvers, closed, grantSecondsMin }: NamePolicyOptions,
  signal: AbortSignal,
): Promise<NameAnswer> {
  const ports = portsOf(sandbox.policy, name);
  if (ports.length === 0) return { rcode: RCODE.noSuchName, records: [] };
  if (type !== "A") return { rcode: RCODE.success, records: [] };
  const { rcode, aliases, addresses } = await resolveName(resolvers, name, signal);
  if (rcode === "NXDOMAIN") return { rcode: RCODE.noSuchName, records: [] };
  // An address of this host or of a private network is no answer to a public name (DNS rebinding), and is open to no sandbox.
  const usable = addresses.filter(({ address }) => !closed.has(address)).slice(0, ADDRESSES_MAX);
  if (usable.length === 0) return { rcode: RCODE.success, records: [] };
  const limited = (ttl: number): number => Math.min(ttl, TTL_SECONDS_MAX);
  await sandbox.grant(
    usable.map(({ address }) => address),
    ports,
    Math.max(...usable.map(({ ttl }) => limited(ttl))),
    grantSecondsMin,
  );
  return {
    rcode: RCODE.success,
    records: [
      ...aliases.map(
        ({ name: owner, target, ttl }) => ({ type: "CNAME", name: owner, data: target, ttl: limited(ttl) }) as const,
      ),
      ...usable.map(
        ({ name: owner, address, ttl }) => ({ type: "A", name: owner, data: address, ttl: limited(ttl) }) as const,
      ),
    ],
  };
}
