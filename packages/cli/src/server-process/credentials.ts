import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";

export const DEFAULT_DATA_DIRECTORY = "/var/lib/caisson";

const HEALTH_TIMEOUT_MS = 3_000;

/** What a server writes into its data directory for clients on the same machine. */
export interface Credentials {
  readonly organization: string;
  readonly token: string;
  readonly endpoint: string;
}

/** Reads the credentials of the server that uses the data directory. */
export async function readCredentials(dataDirectory: string): Promise<Credentials> {
  const path = join(resolve(dataDirectory), "credentials.json");
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw unreadable(path, dataDirectory, error);
  }
  const value = parseJson(text);
  if (isCredentials(value)) return value;
  throw new CliError(
    "INVALID_CREDENTIALS",
    EXIT.failure,
    `${path} does not hold credentials`,
    "Start the server again; it writes the file.",
  );
}

/** Throws unless the server answers at its endpoint. */
export async function requireHealthy(endpoint: string): Promise<void> {
  const failure = await fetch(new URL("/health", endpoint), { signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS) }).then(
    (response) => (response.ok ? null : `it answers with status ${response.status}`),
    (error: unknown) => reasonOf(error),
  );
  if (failure === null) return;
  const message = `The server does not answer at ${endpoint}: ${failure}`;
  throw new CliError("NOT_RUNNING", EXIT.backend, message, "Start it in another shell: caisson up");
}

function unreadable(path: string, dataDirectory: string, error: unknown): CliError {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOENT") {
    const message = `There is no server data in ${dataDirectory}: ${path} does not exist`;
    return new CliError(
      "NO_SERVER",
      EXIT.notFound,
      message,
      "Start a server with `caisson up`, or name its directory with --data.",
    );
  }
  if (code === "EACCES") {
    const hint = "Run the command as the server's user, for example with sudo.";
    return new CliError("NOT_ALLOWED", EXIT.authentication, `Cannot read ${path}: permission denied`, hint);
  }
  return new CliError("NO_SERVER", EXIT.failure, `Cannot read ${path}: ${reasonOf(error)}`, undefined, {
    cause: error,
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isCredentials(value: unknown): value is Credentials {
  if (typeof value !== "object" || value === null) return false;
  const fields = value as Partial<Record<keyof Credentials, unknown>>;
  return [fields.organization, fields.token, fields.endpoint].every((field) => typeof field === "string");
}

/** `fetch` hides the reason one level down. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}
