/** How the agent was started. */
export interface Settings {
  /** Unix socket that the agent listens on. */
  readonly socketPath: string;
  /** Where relative paths of all methods start (protocol.md 5.6): the home directory. */
  readonly defaultDirectory: string;
  /** The Deno program that runs the user's code: the one on the sandbox's PATH. */
  readonly denoPath: string;
  readonly pingIntervalMs: number;
  /** A directory to empty before anything runs; null: none. */
  readonly clearedDirectory: string | null;
  /** The program to rehearse with, of an agent that is started before it is known whose it is (`host/waiting.ts`); null: it is known. */
  readonly rehearsedProgram: string | null;
}

const PREFIX = "CAISSON_AGENT_";
const DEFAULT_HOME = "/home/app";
const DENO_PATH = "/usr/local/bin/deno";
const DEFAULT_PING_INTERVAL_MS = 15_000;

/**
 * Reads the settings from the agent's process environment, and the initial environment of the sandbox: what remains, without the variables that
 * are for the agent's Deno (their names are in `CAISSON_AGENT_OWN`), and with those that the agent's own process must not have (in `CAISSON_AGENT_ENV_0`,
 * `_1` and so on: `NAME=value` each, ended by NUL, in base64, cut in parts). The settings are `CAISSON_AGENT_SOCKET`, `CAISSON_AGENT_DENO` (default `/usr/local/bin/deno`), `CAISSON_AGENT_PING_MS` (default 15000),
 * `CAISSON_AGENT_CLEAR` (a directory to empty; default none) and `CAISSON_AGENT_REHEARSE` (a program that takes `--version`; default none).
 */
export function readSettings(variables: Readonly<Record<string, string>>): {
  readonly settings: Settings;
  readonly initialEnvironment: Readonly<Record<string, string>>;
} {
  const socketPath = variables[`${PREFIX}SOCKET`];
  if (socketPath === undefined || socketPath === "") {
    throw new Error(`Cannot start the agent: ${PREFIX}SOCKET must be the path of the Unix socket to listen on`);
  }
  const pingIntervalMs = Number(variables[`${PREFIX}PING_MS`] ?? DEFAULT_PING_INTERVAL_MS);
  if (!Number.isInteger(pingIntervalMs) || pingIntervalMs < 1) {
    throw new Error(`Cannot start the agent: ${PREFIX}PING_MS must be whole milliseconds above zero`);
  }
  const initialEnvironment = {
    ...sharedVariables(variables),
    ...hiddenVariables(variables),
  };
  const settings = {
    socketPath,
    defaultDirectory: initialEnvironment.HOME ?? DEFAULT_HOME,
    denoPath: variables[`${PREFIX}DENO`] ?? DENO_PATH,
    pingIntervalMs,
    clearedDirectory: variables[`${PREFIX}CLEAR`] || null,
    rehearsedProgram: variables[`${PREFIX}REHEARSE`] || null,
  };
  return { settings, initialEnvironment };
}

/** The variables of the agent's process that are the sandbox's too. */
export function sharedVariables(variables: Readonly<Record<string, string>>): Record<string, string> {
  const own = new Set(variables[`${PREFIX}OWN`]?.split(" "));
  return Object.fromEntries(Object.entries(variables).filter(([name]) => !name.startsWith(PREFIX) && !own.has(name)));
}

function hiddenVariables(variables: Readonly<Record<string, string>>): Record<string, string> {
  let encoded = "";
  for (let index = 0; variables[`${PREFIX}ENV_${index}`] !== undefined; index += 1)
    encoded += variables[`${PREFIX}ENV_${index}`];
  const text = new TextDecoder().decode(Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0)));
  const entries = text
    .split("\0")
    .filter((entry) => entry !== "")
    .map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]);
  return Object.fromEntries(entries);
}
