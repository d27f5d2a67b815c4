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

export const AGENT_SOCKET_NAME = "agent.sock";

/** Names of the agent's own settings. */
const AGENT_PREFIX = "CAISSON_AGENT_";

/**
 * The environment of the agent's process: the sandbox's variables, so that what it does on the user's behalf sees them, and its own, which its
 * children must not see. `CAISSON_AGENT_ENV` holds, as JSON, the sandbox's variables that stand behind one of its own, and only those: the kernel
 * hands at most 128 KiB in one variable.
 */
export function agentEnvironment(
  sandbox: Readonly<Record<string, string>>,
  memoryBytes: number,
  clearedDirectory: string | null,
): readonly string[] {
  const environment: Readonly<Record<string, string>> = { ...DEFAULT_ENVIRONMENT, ...sandbox };
  const own: Readonly<Record<string, string>> = {
    // The agent's Deno must not write caches into the user's home, which may be a volume where each of them costs a disk flush.
    DENO_DIR: `${AGENT_TARGET}/deno`,
    DENO_NO_UPDATE_CHECK: "1",
    DENO_V8_FLAGS: `--max-old-space-size=${heapMib(memoryBytes)}`,
  };
  const isHidden = (name: string): boolean => Object.hasOwn(own, name) || name.startsWith(AGENT_PREFIX);
  const hidden = Object.entries(environment).filter(([name]) => isHidden(name));
  const settings = {
    ...own,
    [`${AGENT_PREFIX}OWN`]: Object.keys(own).join(" "),
    [`${AGENT_PREFIX}SOCKET`]: `${AGENT_RUN_TARGET}/${AGENT_SOCKET_NAME}`,
    // Always set, because one that came with the sandbox's own variables would name any directory.
    [`${AGENT_PREFIX}CLEAR`]: clearedDirectory ?? "",
    [`${AGENT_PREFIX}ENV`]: JSON.stringify(Object.fromEntries(hidden)),
  };
  // A setting that is not set here may come with the sandbox: it concerns that sandbox's own agent alone.
  return Object.entries({ ...environment, ...settings }).map(([name, value]) => `${name}=${value}`);
}

/**
 * V8 sizes its heap by the host's memory and lets garbage lie accordingly: passing on 300 MB of output took 350 MB of the sandbox's memory, and
 * with a limit 150 MB. What the agent holds at a time is far below it (`host/agent-memory.ts` of the agent).
 */
function heapMib(memoryBytes: number): number {
  return Math.min(Math.max(Math.floor(memoryBytes / MIB / 3), 256), 1024);
}
