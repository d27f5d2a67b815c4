import type { EgressPolicy } from "../runtime.ts";
import { type AllowedPorts, addressRules } from "./policy.ts";

/** Sets and chains of the instance's table (ruleset.ts) that carry the policies of single sandboxes. Keys begin with the sandbox's address. */
export const EGRESS_SETS = `
  set restricted {
    type ipv4_addr
  }
  set intercepted {
    type ipv4_addr
  }
  set allowed_hosts {
    type ipv4_addr . ipv4_addr
  }
  set allowed_services {
    type ipv4_addr . ipv4_addr . inet_service
  }
  set granted_hosts {
    type ipv4_addr . ipv4_addr
    flags timeout
  }
  set granted_services {
    type ipv4_addr . ipv4_addr . inet_service
    flags timeout
  }
`;

/**
 * `egress_forward` decides about each packet of a restricted sandbox by itself and asks no connection table: what an earlier sandbox at the same
 * address had open opens nothing. The other two chains are filled when the first policy comes, since only then the ports are known.
 */
export function egressChains(connectionsMax: number): string {
  return `
  chain egress_names {
  }
  chain egress_input {
  }
  chain egress_forward {
    ct state new add @connections { ip saddr ct count over ${connectionsMax} } drop
    ip daddr @blocked reject with icmp admin-prohibited
    meta l4proto tcp ip saddr . ip daddr @allowed_hosts accept
    ip saddr . ip daddr . tcp dport @allowed_services accept
    reject with icmp admin-prohibited
  }
`;
}

export interface ListenerPorts {
  readonly names: number;
  readonly proxy: number;
}

/** Leads name queries and granted connections of sandboxes with a policy to the server's own listeners. */
export function activationRules(table: string, gateway: string, { names, proxy }: ListenerPorts): string {
  const add = (chain: string, rule: string): string => `add rule inet ${table} ${chain} ${rule}`;
  const isOurs = `fib saddr . iif oif exists ip daddr ${gateway} ct status dnat`;
  return [
    `flush chain inet ${table} egress_names`,
    `flush chain inet ${table} egress_input`,
    add("egress_names", `ip saddr @restricted meta l4proto { tcp, udp } th dport 53 dnat ip to ${gateway}:${names}`),
    add("egress_names", "meta l4proto tcp ip saddr . ip daddr @allowed_hosts accept"),
    add("egress_names", "ip saddr . ip daddr . tcp dport @allowed_services accept"),
    add("egress_names", `meta l4proto tcp ip saddr . ip daddr @granted_hosts dnat ip to ${gateway}:${proxy}`),
    add("egress_names", `ip saddr . ip daddr . tcp dport @granted_services dnat ip to ${gateway}:${proxy}`),
    add("egress_names", `ip saddr @intercepted tcp dport 443 dnat ip to ${gateway}:${proxy}`),
    add("egress_input", `ip saddr @restricted ${isOurs} meta l4proto { tcp, udp } th dport ${names} accept`),
    add("egress_input", `ip saddr @restricted ${isOurs} tcp dport ${proxy} accept`),
    add("egress_input", `ip saddr @intercepted ${isOurs} tcp dport ${proxy} accept`),
    "",
  ].join("\n");
}

/** One element of a set: `{ set: "granted_hosts", key: "10.213.0.5 . 198.51.100.10" }`. */
export interface SetElement {
  readonly set: string;
  readonly key: string;
}

/** What the policy means from the first packet on, before any name is resolved. */
export function staticElements(address: string, policy: EgressPolicy): readonly SetElement[] {
  const elements: SetElement[] = [];
  if (policy.allow !== null) elements.push({ set: "restricted", key: address });
  else if (policy.secrets.length > 0) elements.push({ set: "intercepted", key: address });
  for (const { host, port } of addressRules(policy)) {
    if (port === null) elements.push({ set: "allowed_hosts", key: `${address} . ${host}` });
    else elements.push({ set: "allowed_services", key: `${address} . ${host} . ${port}` });
  }
  return elements;
}

export function grantElements(address: string, target: string, ports: AllowedPorts): readonly SetElement[] {
  if (ports === "any") return [{ set: "granted_hosts", key: `${address} . ${target}` }];
  return ports.map((port) => ({ set: "granted_services", key: `${address} . ${target} . ${port}` }));
}

/** In one transaction: each element is there afterwards, until its time is over. */
export function addElements(table: string, elements: readonly SetElement[], timeoutSeconds?: number): string {
  // The kernel leaves the time of an element alone that is there already, and refuses to delete one that is not.
  const renew = timeoutSeconds === undefined ? "" : removeElements(table, elements);
  const suffix = timeoutSeconds === undefined ? "" : ` timeout ${timeoutSeconds}s`;
  return renew + elements.map(({ set, key }) => `add element inet ${table} ${set} { ${key}${suffix} }\n`).join("");
}

/** In one transaction: none of the elements is there afterwards, whether or not it was before. */
export function removeElements(table: string, elements: readonly SetElement[]): string {
  return elements
    .map(
      ({ set, key }) => `add element inet ${table} ${set} { ${key} }\ndelete element inet ${table} ${set} { ${key} }\n`,
    )
    .join("");
}
