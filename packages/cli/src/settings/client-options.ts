import type { SandboxEndpointOptions } from "@caisson/sdk";
import type { ConfigFile, Profile } from "./config-file.ts";

/** Options that every command which talks to a server has. */
export interface ClientFlags {
  readonly token?: string;
  readonly org?: string;
  readonly endpoint?: string;
}

const LOCAL_ENDPOINT = "http://127.0.0.1:8484";

/** What the library is given, and what is shown of it. */
export interface ClientSettings {
  readonly options: SandboxEndpointOptions;
  readonly endpoint: string;
  readonly org: string | undefined;
}

/**
 * Settles endpoint, organization and token, each from flag, environment or file, in this order. A saved token is used for the endpoint
 * it was saved with and for no other: it must never reach a server that it was not meant for.
 */
export function resolveClientSettings(
  flags: ClientFlags,
  environment: NodeJS.ProcessEnv,
  config: ConfigFile,
): ClientSettings {
  const read = (...names: readonly string[]): string | undefined =>
    names.map((name) => environment[name]).find(Boolean);
  const current = config.current === null ? undefined : config.profiles[config.current];
  const fromEnvironment = read("CAISSON_ENDPOINT", "DENO_DEPLOY_ENDPOINT");
  const endpoint = flags.endpoint ?? fromEnvironment ?? current?.endpoint ?? LOCAL_ENDPOINT;
  const givenOrg = flags.org ?? read("CAISSON_ORG", "DENO_DEPLOY_ORG");
  const givenToken = flags.token ?? read("CAISSON_TOKEN", "DENO_DEPLOY_TOKEN");
  const profile = givenToken === undefined ? profileFor(endpoint, givenOrg, current, config) : undefined;
  const token = givenToken ?? profile?.token;
  const org = givenOrg ?? profile?.org;

  // Sandboxes may have an origin of their own in the environment; an endpoint that was named otherwise stands for both.
  const isFromEnvironment = flags.endpoint === undefined && fromEnvironment !== undefined;
  return {
    endpoint,
    org,
    options: {
      ...(isFromEnvironment ? {} : { apiEndpoint: endpoint, sandboxEndpoint: endpoint }),
      ...(token === undefined ? {} : { token }),
      ...(org === undefined ? {} : { org }),
    },
  };
}

/** The profile in use when it fits, else any that does. */
function profileFor(
  endpoint: string,
  org: string | undefined,
  current: Profile | undefined,
  config: ConfigFile,
): Profile | undefined {
  const fits = (profile: Profile): boolean =>
    profile.endpoint === endpoint && (org === undefined || profile.org === org);
  if (current !== undefined && fits(current)) return current;
  return Object.values(config.profiles).find(fits);
}
