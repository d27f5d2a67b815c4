import { randomCharacters } from "@caisson/model";
import type { EgressPolicy } from "@caisson/node";
import type { SandboxConfig } from "@caisson/protocol";

const PLACEHOLDER_CHARACTERS = 32;

/**
 * The sandbox's variables and what it may reach. A secret's variable holds a placeholder, and only the policy, which stays in this process's
 * memory, knows the value: nothing that is stored, logged or handed to another process may be made from it.
 */
export function egressOf(config: SandboxConfig): {
  readonly env: Readonly<Record<string, string>>;
  readonly egress: EgressPolicy | null;
} {
  if (config.allowNet === null && config.secrets.length === 0) return { env: config.env, egress: null };
  const secrets = config.secrets.map(({ name, value, hosts }) => ({
    name,
    placeholder: `caisson-secret-${randomCharacters(PLACEHOLDER_CHARACTERS)}`,
    value,
    hosts,
  }));
  const placeholders = Object.fromEntries(secrets.map(({ name, placeholder }) => [name, placeholder]));
  return {
    env: { ...config.env, ...placeholders },
    egress: {
      allow: config.allowNet,
      secrets: secrets.map(({ placeholder, value, hosts }) => ({ placeholder, value, hosts })),
    },
  };
}
