import { CERTIFICATES } from "../root/certificate-bundle.ts";
import { AGENT_RUN_TARGET, AGENT_TARGET } from "./agent-bundle.ts";

export const HOME = "/home/app";

const MIB = 1024 * 1024;

/**
 * The variables that every sandbox starts with. `/opt/node/bin` is where roots made before version 3 of the image's recipe have Node.
 * `IS_SANDBOX` is what coding agents ask for before they let themselves run as root. The certificate variables make Node, Deno, Python's requests and programs that bring an
 * OpenSSL of their own trust what the root trusts, among it the certificates that the host's administrator installed.
 */
const DEFAULT_ENVIRONMENT: Readonly<Record<string, string>> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/node/bin",
  HOME,
  USER: "root",
  LOGNAME: "root",
  SHELL: "/bin/bash",
  LANG: "C.UTF-8",
  IS_SANDBOX: "1",
  DEBIAN_FRONTEND: "noninteractive",
  SSL_CERT_FILE: CERTIFICATES,
  NODE_EXTRA_CA_CERTS: CERTIFICATES,
  REQUESTS_CA_BUNDLE: CERTIFICATES,
  DENO_TLS_CA_STORE: "system",
};

/** Patterns of clients that try very many ways (`walk`, `expandGlob`) go on with an engine that tries each character once, where it knows all they have. */
const LINEAR_PATTERNS = "--enable-experimental-regexp-engine-on-excessive-backtracks";

export const AGENT_SOCKET_NAME = "agent.sock";

/** Names of the agent's own settings. */
const AGENT_PREFIX = "CAISSON_AGENT_";
const ENV_PREFIX = `${AGENT_PREFIX}ENV_`;

/**
 * What of the sandbox's variables the agent's own process has, because it acts on the user's behalf: for its requests (`fetch`) and temporary files. No
 * others, of which many change what a program is: LD_PRELOAD, LD_LIBRARY_PATH, GLIBC_TUNABLES, NODE_OPTIONS, DENO_…, OTEL_….
 */
const SHARED: ReadonlySet<string> = new Set([
  ...["PATH", "HOME", "LANG", "TZ", "TMPDIR"],
  ...["SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "DENO_TLS_CA_STORE"],
  ...["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"].flatMap((name) => [name, name.toLowerCase()]),
]);

/** The kernel hands at most 128 KiB in one variable. */
const PART_BYTES = 96 * 1024;

/**
 * The environment of the agent's process: its own variables, which its children must not see, and of the sandbox's the `SHARED` ones.
 * `CAISSON_AGENT_ENV_0`, `_1` and so on hold the sandbox's others: `NAME=value` each, ended by NUL, in base64, cut in parts.
 */
export function agentEnvironment(
  sandbox: Readonly<Record<string, string>>,
  memoryBytes: number,
  clearedDirectory: string | null,
  rehearsedProgram = "",
): readonly string[] {
  const environment: Readonly<Record<string, string>> = { ...DEFAULT_ENVIRONMENT, ...sandbox };
  const own: Readonly<Record<string, string>> = {
    // The agent's Deno must not write caches into the user's home, which may be a volume where each of them costs a disk flush.
    DENO_DIR: `${AGENT_TARGET}/deno`,
    DENO_NO_UPDATE_CHECK: "1",
    DENO_V8_FLAGS: `--max-old-space-size=${heapMib(memoryBytes)},${LINEAR_PATTERNS}`,
  };
  const isShared = ([name]: readonly [string, string]): boolean => SHARED.has(name);
  const variables = Object.entries(environment);
  const settings = {
    ...own,
    [`${AGENT_PREFIX}OWN`]: Object.keys(own).join(" "),
    [`${AGENT_PREFIX}SOCKET`]: `${AGENT_RUN_TARGET}/${AGENT_SOCKET_NAME}`,
    // Always set, because those that came with the sandbox's own variables would name any directory, and have the agent wait for a configuration.
    [`${AGENT_PREFIX}CLEAR`]: clearedDirectory ?? "",
    [`${AGENT_PREFIX}REHEARSE`]: rehearsedProgram,
    ...Object.fromEntries(inParts(variables.filter((variable) => !isShared(variable)))),
  };
  // A setting that is not set here may come with the sandbox: it concerns that sandbox's own agent alone.
  const asked = variables.filter(([name]) => name.startsWith(AGENT_PREFIX) && !name.startsWith(ENV_PREFIX));
  const all = { ...Object.fromEntries([...variables.filter(isShared), ...asked]), ...settings };
  return Object.entries(all).map(([name, value]) => `${name}=${value}`);
}

function inParts(variables: readonly (readonly [string, string])[]): (readonly [string, string])[] {
  const text = Buffer.from(variables.map(([name, value]) => `${name}=${value}\0`).join("")).toString("base64");
  const count = Math.ceil(text.length / PART_BYTES);
  return Array.from({ length: count }, (_, index) => [
    `${ENV_PREFIX}${index}`,
    text.slice(index * PART_BYTES, (index + 1) * PART_BYTES),
  ]);
}

/** What an agent is started with that waits for a sandbox of this much memory: it rehearses, and is configured later. */
export function waitingEnvironment(memoryBytes: number): readonly string[] {
  return agentEnvironment({}, memoryBytes, null, `${AGENT_TARGET}/bin/tini`);
}

/**
 * V8 sizes its heap by the host's memory and lets garbage lie accordingly: passing on 300 MB of output took 350 MB of the sandbox's memory, and
 * with a limit 150 MB. It is fixed when the process starts. What the agent holds at a time is far below it (`host/agent-memory.ts` of the agent).
 */
export function heapMib(memoryBytes: number): number {
  return Math.min(Math.max(Math.floor(memoryBytes / MIB / 3), 256), 1024);
}
