import { Buffer } from "node:buffer";
import { DEFAULT_REGION } from "../core/configuration.ts";
import { parseDurationMs, parseMemoryMib } from "../core/limits.ts";
import type { SandboxOptions } from "./options.ts";

const DEFAULT_MEMORY_MIB = 1280;

/** Servers and proxies take at least 64 KiB of headers (protocol.md 1.4); the rest is left for the others. */
const MAX_HEADER_BYTES = 48 * 1024;

/** The create header and what has to be done after connecting. */
export interface CreateConfig {
  /** The value of `x-deno-sandbox-config`. */
  readonly header: string;
  /** Variables that did not fit into the header. */
  readonly lateEnv: Readonly<Record<string, string>>;
  readonly isSession: boolean;
  /** Whether something outlives the sandbox that must be durable when it has ended. */
  readonly hasVolumes: boolean;
}

/** Writes the options for the create header (protocol.md 1.5). Throws `InvalidMemoryError` or `InvalidTimeoutError`. */
export function createConfig(options: SandboxOptions): CreateConfig {
  const { timeout = "session", memory, root, volumes = {}, env = {}, region = DEFAULT_REGION } = options;
  const isSession = timeout === "session";
  const config = {
    region,
    memory_mb: memory === undefined ? DEFAULT_MEMORY_MIB : parseMemoryMib(memory),
    // A duration, not an instant: the clocks of the two machines need not agree.
    timeout: isSession ? undefined : `${parseDurationMs(timeout) / 1000}s`,
    labels: options.labels,
    root: root === undefined ? undefined : { volume: root },
    volumes: Object.entries(volumes).map(([path, mount]) => {
      if (typeof mount === "string") return { volume: mount, path };
      return { volume: mount.volume, path, ...(mount.readOnly === true ? { read_only: true } : {}) };
    }),
    allow_net: options.allowNet,
    hostname: options.hostname,
    secrets: options.secrets,
  };
  const hasVolumes = config.volumes.length > 0 || root !== undefined;
  const whole = encodeHeader({ ...config, env });
  if (whole.length <= MAX_HEADER_BYTES) return { header: whole, lateEnv: {}, isSession, hasVolumes };
  return { header: encodeHeader(config), lateEnv: env, isSession, hasVolumes };
}

/** The bytes behind the base64 are read as Latin-1, so everything beyond ASCII is written as JSON escapes. */
function encodeHeader(config: object): string {
  const json = JSON.stringify(config).replace(
    /[\u007f-\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return Buffer.from(json, "latin1").toString("base64");
}
