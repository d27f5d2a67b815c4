import process from "node:process";
import { InvalidApiEndpoint, InvalidSandboxEndpoint, MissingOrgError, MissingTokenError } from "./errors.ts";

/** Where `caisson up` listens unless told otherwise. */
export const DEFAULT_ENDPOINT = "http://127.0.0.1:8484";

/** The region of a sandbox when none is asked for. */
export const DEFAULT_REGION = "ord";

/** A region's name. The server decides which ones exist; `ord` and `ams` are the usual ones. */
export type Region = "ord" | "ams" | (string & {});

/** Options of {@linkcode Client}, `Sandbox.create` and `Sandbox.connect`. */
export interface BaseClientOptions {
  /**
   * The access token. Organization tokens start with `ddo_`; with any other token `org` must be given too.
   * Default: `CAISSON_TOKEN`, then `DENO_DEPLOY_TOKEN` of the environment.
   */
  token?: string;
  /** The slug of the organization to work in. Default: `CAISSON_ORG`, then `DENO_DEPLOY_ORG`; needed for personal tokens only. */
  org?: string;
  /**
   * The origin of the API, without a trailing slash.
   * Default: `CAISSON_ENDPOINT`, then `DENO_DEPLOY_ENDPOINT`, then `http://127.0.0.1:8484`.
   */
  apiEndpoint?: string;
  /** How long one HTTP request may take, in milliseconds. Default: 30000. */
  timeoutMs?: number;
  /** How long a sandbox may take to be made or reached, in milliseconds. Default: 60000. */
  connectTimeoutMs?: number;
  /** How often a request that may be repeated safely is repeated after a failure. Default: 2. */
  maxRetries?: number;
}

/** {@linkcode BaseClientOptions} and the origin for sandboxes. */
export interface SandboxEndpointOptions extends BaseClientOptions {
  /**
   * The origin for creating sandboxes and connecting to them, or a function that makes it from the region.
   * Default: `DENO_SANDBOX_ENDPOINT`, then `https://<region>.` and `DENO_SANDBOX_BASE_DOMAIN`, then the origin of the API. When
   * `CAISSON_ENDPOINT` is set it stands for both origins.
   */
  sandboxEndpoint?: string | ((region: string) => string);
}

/** Options after the environment and the defaults have been consulted. */
export interface Configuration {
  readonly token: string;
  readonly org: string | undefined;
  readonly apiEndpoint: string;
  readonly timeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly maxRetries: number;
  readonly sandboxEndpoint: (region: string) => string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Settles the options. Throws `MissingTokenError`, `MissingOrgError`, `InvalidApiEndpoint` or `InvalidSandboxEndpoint`, before any
 * request is made.
 */
export function resolveConfiguration(options: SandboxEndpointOptions = {}, environment?: Environment): Configuration {
  const read = (name: string): string | undefined => (environment ?? process.env)[name] || undefined;
  const token = options.token ?? read("CAISSON_TOKEN") ?? read("DENO_DEPLOY_TOKEN");
  if (!token) throw new MissingTokenError();
  const org = options.org ?? read("CAISSON_ORG") ?? read("DENO_DEPLOY_ORG");
  if (!token.startsWith("ddo_") && !org) throw new MissingOrgError();

  const apiEndpoint =
    options.apiEndpoint ?? read("CAISSON_ENDPOINT") ?? read("DENO_DEPLOY_ENDPOINT") ?? DEFAULT_ENDPOINT;
  if (!isOrigin(apiEndpoint)) throw new InvalidApiEndpoint(apiEndpoint);

  return {
    token,
    org,
    apiEndpoint,
    timeoutMs: options.timeoutMs ?? 30_000,
    connectTimeoutMs: options.connectTimeoutMs ?? 60_000,
    maxRetries: options.maxRetries ?? 2,
    sandboxEndpoint(region) {
      const given = options.sandboxEndpoint;
      const baseDomain = read("DENO_SANDBOX_BASE_DOMAIN");
      const endpoint =
        (typeof given === "function" ? given(region) : given) ??
        (options.apiEndpoint === undefined ? read("CAISSON_ENDPOINT") : undefined) ??
        read("DENO_SANDBOX_ENDPOINT") ??
        (baseDomain === undefined ? apiEndpoint : `https://${region}.${baseDomain}`);
      if (!isOrigin(endpoint)) throw new InvalidSandboxEndpoint(endpoint);
      return endpoint;
    },
  };
}

/** A path or a trailing slash would be lost when the path of a request is put in its place (protocol.md 1.1). */
function isOrigin(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  return (
    (url.protocol === "http:" || url.protocol === "https:") &&
    !text.endsWith("/") &&
    url.pathname === "/" &&
    !url.search
  );
}
