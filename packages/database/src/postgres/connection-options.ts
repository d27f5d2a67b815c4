import { CaissonError } from "@caisson/model";
import type { ClientConfig } from "pg";
import { parse, toClientConfig } from "pg-connection-string";
import { TYPES } from "./session.ts";

/** Parameters of the URL that mean something here; others are refused instead of being ignored. */
const PARAMETERS = ["host", "port", "user", "password", "sslmode", "sslrootcert", "sslcert", "sslkey", "options"];
const TLS_MODES = ["disable", "require", "verify-ca", "verify-full"];
const ENCODING = "in names and passwords write / as %2F, ? as %3F, # as %23, @ as %40 and % as %25";
/** How long a connection may take to be made, and the longest that a statement is waited for. */
const CONNECT_TIMEOUT_MS = 5_000;
const QUERY_TIMEOUT_MS = 35_000;

/** Where a PostgreSQL database is, and how it is connected to. */
export interface ConnectionOptions {
  readonly config: ClientConfig;
  /** For people, for example `postgres://caisson@db.example.com:5432/caisson`: without the password. */
  readonly description: string;
}

/**
 * Reads a URL such as `postgres://user:password@host:5432/name?sslmode=verify-full`, or `postgres:///name?host=/run/postgresql` for a socket of this
 * machine. The parameters for TLS mean what they mean to libpq; a server on another machine needs an explicit `sslmode`. Without a password in it,
 * PGPASSWORD and ~/.pgpass count. Throws `INVALID_CONFIG`, whose text never has the password.
 */
export function parseConnectionUrl(url: string): ConnectionOptions {
  const query = new URLSearchParams(url.split("?")[1] ?? "");
  // A password with such a letter ends early or is another one, and no part of it must be shown as something else.
  const isUnencoded =
    /#|%(?![\da-f]{2})/i.test(url) ||
    /:\/\/[^/?]*\/[^?]*@/.test(url) ||
    [...query.keys()].some((name) => /\W/.test(name));
  if (isUnencoded) throw invalid(ENCODING);
  for (const name of query.keys())
    if (!PARAMETERS.includes(name))
      throw invalid(`its parameter ${JSON.stringify(name)} is not known: choose from ${PARAMETERS.join(", ")}`);
  const mode = query.get("sslmode");
  if (mode !== null && !TLS_MODES.includes(mode))
    throw invalid(`sslmode is ${JSON.stringify(mode)}: choose one of ${TLS_MODES.join(", ")}`);
  const config = parseUrl(url);
  const { user, host = "", port = 5432, database } = config;
  if (!/^postgres(?:ql)?:\/\//.test(url) || !database)
    throw invalid("give postgres://USER:PASSWORD@HOST:PORT/DATABASE, or postgres:///DATABASE?host=/run/postgresql");
  if (host === "")
    throw invalid("it names no host: give one, or the directory of a socket, as in ?host=/run/postgresql");
  if (mode === null && !isLocal(host))
    throw invalid(
      `the connection to ${host} leaves this machine: add ?sslmode=verify-full (or require, which encrypts without checking who answers, or disable)`,
    );
  const place = host.startsWith("/") ? `/${database}?host=${host}` : `${host}:${port}/${database}`;
  return {
    config: {
      ...config,
      types: TYPES,
      application_name: "caisson",
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: QUERY_TIMEOUT_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
    },
    description: `postgres://${user ? `${user}@` : ""}${place}`,
  };
}

function parseUrl(url: string): ClientConfig {
  try {
    return toClientConfig(parse(url, { useLibpqCompat: true }));
  } catch (error) {
    throw invalid(`it cannot be used: ${error instanceof Error ? error.message : String(error)}; ${ENCODING}`, error);
  }
}

function isLocal(host: string): boolean {
  return host.startsWith("/") || host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

function invalid(problem: string, cause?: unknown): CaissonError {
  return new CaissonError("INVALID_CONFIG", `The setting "database": ${problem}`, { cause });
}
