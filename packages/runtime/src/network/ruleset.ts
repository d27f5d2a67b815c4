import { EGRESS_SETS, egressChains } from "../egress/egress-rules.ts";

/** Networks that a sandbox cannot reach unless a setting opens them: private (RFC 1918), shared (RFC 6598). */
export const PRIVATE_NETWORKS: readonly string[] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"];

/**
 * Networks that a sandbox can never reach: this host, loopback, link-local (the metadata service of clouds), IETF protocol assignments,
 * multicast, reserved and broadcast.
 */
export const FORBIDDEN_NETWORKS: readonly string[] = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "192.0.0.0/24",
  "224.0.0.0/3",
];

/** Connections that one sandbox may have open at a time through the host, whose table of connections is shared by all. */
const CONNECTIONS_MAX = 8192;

export interface RulesetInput {
  readonly table: string;
  /** Prefix of the names of this instance's interfaces, and of those of every instance on the host. */
  readonly interfacePrefix: string;
  readonly commonPrefix: string;
  /** Where the sandboxes' addresses are. */
  readonly networks: readonly string[];
  /** Where name queries go, by the address that sandboxes send them to. Empty: names do not resolve. */
  readonly nameServers: ReadonlyMap<string, string>;
  readonly blockedNetworks: readonly string[];
}

/**
 * The rules of one instance for all of its sandboxes, matched by interface name, so that starting a sandbox changes no rule.
 *
 * `input`: nothing from a sandbox reaches the host itself, under whichever of its addresses, except name queries where the host is the name
 * server. `forward`: a sandbox speaks with its own address only, never to another sandbox, and not to blocked networks; name queries pass,
 * wherever the server is. Inwards come answers only. IPv6 does not pass. The sets `restricted` and `intercepted` hold the addresses of
 * sandboxes with a policy of their own (egress/egress-rules.ts); these pass by the chains that begin with `egress`.
 */
export function ruleset(input: RulesetInput): string {
  const { table, interfacePrefix, commonPrefix } = input;
  const inside = `iifname "${interfacePrefix}*"`;
  const names = [...input.nameServers].map(
    ([address, resolver]) =>
      `${inside} ip daddr ${address} meta l4proto { tcp, udp } th dport 53 dnat ip to ${resolver}`,
  );
  return `
table inet ${table}
delete table inet ${table}
table inet ${table} {
  set connections {
    type ipv4_addr
    flags dynamic
    size 65535
  }
  set sandboxes {
    type ipv4_addr
    flags interval
    auto-merge
    elements = { ${input.networks.join(", ")} }
  }
  set blocked {
    type ipv4_addr
    flags interval
    auto-merge
    elements = { ${input.blockedNetworks.join(", ")} }
  }
  ${EGRESS_SETS}
  ${egressChains(CONNECTIONS_MAX)}
  chain names {
    type nat hook prerouting priority dstnat; policy accept;
    ${inside} jump egress_names
    ip saddr @restricted accept
    ${names.join("\n    ")}
  }
  chain input {
    type filter hook input priority filter - 5; policy accept;
    ${inside} jump to_host
  }
  chain to_host {
    jump egress_input
    ip saddr @restricted drop
    ct status dnat ct state new,established meta l4proto { tcp, udp } th dport 53 accept
    drop
  }
  chain forward {
    type filter hook forward priority filter - 5; policy accept;
    ${inside} jump from_sandbox
    oifname "${interfacePrefix}*" ct state established,related accept
    oifname "${interfacePrefix}*" drop
  }
  chain from_sandbox {
    meta nfproto != ipv4 drop
    ip saddr != @sandboxes drop
    fib saddr . iif oif missing drop
    oifname "${commonPrefix}*" drop
    ip saddr @restricted goto egress_forward
    ct state established,related accept
    ct state new add @connections { ip saddr ct count over ${CONNECTIONS_MAX} } drop
    ct status dnat meta l4proto { tcp, udp } th dport 53 accept
    ip daddr @blocked reject with icmp admin-prohibited
    accept
  }
  chain outbound {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @sandboxes oifname != "${commonPrefix}*" masquerade
  }
}
`;
}
