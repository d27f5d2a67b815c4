import type { EgressPolicy, EgressRule, EgressSecret } from "../runtime.ts";

/** Ports on which a name may be reached. */
export type AllowedPorts = "any" | readonly number[];

const NO_PORTS: AllowedPorts = [];

const LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?";
const HOST_NAME = new RegExp(`^(?=.{1,253}$)${LABEL}(?:\\.${LABEL})*$`);

/** Whether the text is a host's name (RFC 1123, and the underscores that name servers know) in the form of `normalizeName`. */
export function isHostName(text: string): boolean {
  return HOST_NAME.test(text);
}

/** Whether the rule means this name. Text that is no name, such as `other.test:80.example.com`, only ends like one: servers may take it for another. */
function namesHost(rule: { readonly kind: string; readonly host: string }, name: string): boolean {
  if (!isHostName(name)) return false;
  if (rule.kind === "host") return rule.host === name;
  return rule.kind === "subdomains" && name.endsWith(`.${rule.host}`);
}

/** Lower case, and without the dot that ends a fully qualified name: the form in which rules hold names. */
export function normalizeName(name: string): string {
  return name.toLowerCase().replace(/\.$/, "");
}

/** On which ports the policy allows the name; no ports when it does not name it at all. */
export function portsOf(policy: EgressPolicy, name: string): AllowedPorts {
  if (policy.allow === null) return "any";
  const rules = policy.allow.filter((rule) => namesHost(rule, normalizeName(name)));
  if (rules.length === 0) return NO_PORTS;
  const ports = rules.map(({ port }) => port);
  return ports.includes(null) ? "any" : [...new Set(ports.filter((port) => port !== null))];
}

export function allowsName(policy: EgressPolicy, name: string, port: number): boolean {
  const ports = portsOf(policy, name);
  return ports === "any" || ports.includes(port);
}

/** The secrets whose values may be sent to the host. */
export function secretsFor(policy: EgressPolicy, name: string): readonly EgressSecret[] {
  const wanted = normalizeName(name);
  return policy.secrets.filter(({ hosts }) =>
    hosts.some((text) => {
      const host = normalizeName(text);
      return namesHost(
        host.startsWith("*.") ? { kind: "subdomains", host: host.slice(2) } : { kind: "host", host },
        wanted,
      );
    }),
  );
}

export function addressRules(policy: EgressPolicy): readonly EgressRule[] {
  return (policy.allow ?? []).filter(({ kind }) => kind === "ipv4");
}
