import { CaissonError, type Labels, parseDuration, requireLabels } from "@caisson/model";
import { decodeVolumes, type VolumeMount } from "./config-volumes.ts";
import { isHostName, type NetworkRule, parseNetworkRule } from "./network-rule.ts";
import { MAX_ENVIRONMENT_BYTES, MAX_VARIABLE_BYTES, TEXT_OVERHEAD_BYTES, variableBytes } from "./variable.ts";

/** Limits of protocol.md 5.1. */
export const MEMORY_LIMITS_MB = { min: 768, max: 4096, default: 1280 } as const;
export const MAX_LIFETIME_MS = 30 * 60_000;

/** The kernel's limit for a host name is 64 bytes; some programs allow 63. */
const MAX_OWN_HOST_NAME_LENGTH = 63;
const HOST_NAME_RULE = `a host name: at most ${MAX_OWN_HOST_NAME_LENGTH} letters, digits, "-" and "." between them, and not "localhost"`;

/** What a create asks for, after both dialects of protocol.md 1.5 have become one. Everything in it is valid in itself. */
export interface SandboxConfig {
  readonly memoryMb: number;
  /** Epoch milliseconds at which the sandbox ends; null for a session, which ends with its primary connection (protocol.md 5.3). */
  readonly stopAtMs: number | null;
  readonly labels: Labels;
  /** Id or slug of a bootable volume or snapshot; null for the built-in image. */
  readonly root: string | null;
  readonly volumes: readonly VolumeMount[];
  /** Null: unrestricted. Empty: nothing is allowed. */
  readonly allowNet: readonly NetworkRule[] | null;
  readonly secrets: readonly Secret[];
  /** Set before anything runs. */
  readonly env: Readonly<Record<string, string>>;
  /** What the sandbox is called inside; null: chosen by the server. Only our own clients ask for one. */
  readonly hostname: string | null;
  /** As the client named it; not yet known to exist. */
  readonly region: string | null;
  /** Python only: it reads nothing back, so pre-exposing is allowed but not needed. */
  readonly ssh: boolean;
  readonly port: number | null;
}

/** A variable whose real value replaces its placeholder in HTTPS requests to `hosts` (protocol.md 5.7). */
export interface Secret {
  readonly name: string;
  readonly value: string;
  readonly hosts: readonly string[];
}

/**
 * Decodes the value of `x-deno-sandbox-config`: base64 of a JSON object whose bytes are Latin-1 characters. Null members count as
 * absent and unknown ones are ignored. `nowMs` is the server's clock: an end in the past is refused, one beyond 30 minutes is clamped.
 * Throws `INVALID_CONFIG`, `INVALID_MEMORY` or `INVALID_LABELS`, and never repeats a secret or a variable's value.
 */
export function decodeSandboxConfig(header: string | undefined, nowMs: number): SandboxConfig {
  const config = decodeObject(header);
  const region = optionalMember(config, "region", "text", isText);
  return {
    memoryMb: decodeMemory(config.memory_mb ?? MEMORY_LIMITS_MB.default),
    stopAtMs: decodeStopAt(config, nowMs),
    labels: requireLabels(config.labels ?? {}),
    root: decodeRoot(config.root ?? null),
    volumes: decodeVolumes(config.volumes ?? []),
    allowNet: decodeAllowNet(config.allow_net ?? null),
    secrets: decodeSecrets(config.secrets ?? {}),
    env: decodeEnv(config.env ?? {}),
    hostname: optionalMember(config, "hostname", HOST_NAME_RULE, isOwnHostName) ?? null,
    region: region ?? null,
    ssh: optionalMember(config, "ssh", "true or false", isBoolean) ?? false,
    port: optionalMember(config, "port", "a whole number from 1 to 65535", isPort) ?? null,
  };
}

/** True for a plain JSON object. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function decodeObject(header: string | undefined): Readonly<Record<string, unknown>> {
  const text = header?.trim() ?? "";
  if (text === "") throw invalid("the header x-deno-sandbox-config is missing: send base64 of a JSON object in it");
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) {
    throw invalid("the header x-deno-sandbox-config is not standard base64 with padding");
  }
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(text, "base64").toString("latin1"));
  } catch {
    throw invalid("the header x-deno-sandbox-config does not hold JSON");
  }
  if (!isRecord(value)) throw invalid("the header x-deno-sandbox-config does not hold a JSON object");
  return value;
}

function decodeMemory(value: unknown): number {
  const { min, max } = MEMORY_LIMITS_MB;
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw new CaissonError(
    "INVALID_MEMORY",
    `Invalid memory ${show(value)} MiB: give a whole number from ${min} to ${max}`,
  );
}

function decodeStopAt(config: Readonly<Record<string, unknown>>, nowMs: number): number | null {
  const stopAtMs = optionalMember(config, "stop_at_ms", "epoch milliseconds", isEpochMs);
  const timeout = optionalMember(config, "timeout", '"session" or a duration such as "5m"', isText);
  if (stopAtMs !== undefined && timeout !== undefined) throw invalid('give only one of "stop_at_ms" and "timeout"');
  const latestMs = nowMs + MAX_LIFETIME_MS;
  if (stopAtMs !== undefined) {
    if (stopAtMs <= nowMs) throw invalid(`"stop_at_ms" ${stopAtMs} is in the past: give a time after ${nowMs}`);
    return Math.min(stopAtMs, latestMs);
  }
  if (timeout === undefined || timeout === "session") return null;
  return Math.min(nowMs + parseDuration(timeout), latestMs);
}

function decodeRoot(value: unknown): string | null {
  if (value === null) return null;
  if (isRecord(value) && isText(value.volume)) return value.volume;
  throw invalid('"root" must be an object with the id or slug of a volume or snapshot in "volume"');
}

function decodeAllowNet(value: unknown): readonly NetworkRule[] | null {
  if (value === null) return null;
  if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) {
    throw invalid('"allow_net" must be a list of destinations');
  }
  return value.map(parseNetworkRule);
}

function decodeSecrets(value: unknown): readonly Secret[] {
  if (!isRecord(value)) throw invalid('"secrets" must be an object from variable names to { hosts, value }');
  return Object.entries(value).map(([name, secret]) => {
    const shown = JSON.stringify(name.slice(0, 64));
    if (!isVariableName(name)) throw invalid(`${shown} in "secrets" cannot be the name of an environment variable`);
    const hosts = isRecord(secret) ? secret.hosts : undefined;
    const text = isRecord(secret) ? secret.value : undefined;
    if (
      !Array.isArray(hosts) ||
      hosts.length === 0 ||
      !hosts.every((host) => typeof host === "string" && isSecretHost(host))
    ) {
      throw invalid(`the secret ${shown} needs "hosts", a list of at least one host name`);
    }
    if (!isText(text) || text.includes("\0")) throw invalid(`the secret ${shown} needs "value", a text`);
    return { name, value: text, hosts };
  });
}

function isSecretHost(host: string): boolean {
  const name = host.toLowerCase();
  return isHostName(name.startsWith("*.") ? name.slice(2) : name);
}

function decodeEnv(value: unknown): Readonly<Record<string, string>> {
  if (!isRecord(value)) throw invalid('"env" must be an object of text');
  let totalBytes = 0;
  for (const [name, text] of Object.entries(value)) {
    const shown = JSON.stringify(name.slice(0, 64));
    if (!isVariableName(name)) throw invalid(`${shown} in "env" cannot be the name of an environment variable`);
    if (typeof text !== "string" || text.includes("\0"))
      throw invalid(`the variable ${shown} in "env" must be a text without NUL`);
    const bytes = variableBytes(name, text);
    totalBytes += bytes + TEXT_OVERHEAD_BYTES;
    if (bytes > MAX_VARIABLE_BYTES) {
      throw invalid(
        `the variable ${shown} in "env" has ${bytes} bytes with its name, and the kernel hands at most ${MAX_VARIABLE_BYTES} to a program. Write the value to a file of the sandbox`,
      );
    }
  }
  if (totalBytes > MAX_ENVIRONMENT_BYTES) {
    throw invalid(
      `the variables in "env" take ${totalBytes} bytes with their ends and pointers, at most ${MAX_ENVIRONMENT_BYTES} are possible. Write large values to files of the sandbox`,
    );
  }
  return value as Readonly<Record<string, string>>;
}

function isVariableName(name: string): boolean {
  return name !== "" && !/[=\0]/.test(name);
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "";
}

function isBoolean(value: unknown): value is boolean {
  return typeof value === "boolean";
}

function isEpochMs(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

function isOwnHostName(value: unknown): value is string {
  if (typeof value !== "string" || value.length > MAX_OWN_HOST_NAME_LENGTH) return false;
  const name = value.toLowerCase();
  return isHostName(name) && !name.includes("_") && name !== "localhost";
}

function isPort(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= 65_535;
}

function optionalMember<T>(
  config: Readonly<Record<string, unknown>>,
  key: string,
  expected: string,
  accepts: (value: unknown) => value is T,
): T | undefined {
  const value = config[key] ?? undefined;
  if (value === undefined) return undefined;
  if (!accepts(value)) throw invalid(`"${key}" is ${show(value)}: give ${expected}`);
  return value;
}

function show(value: unknown): string {
  return JSON.stringify(value).slice(0, 64);
}

function invalid(reason: string): CaissonError {
  return new CaissonError("INVALID_CONFIG", `Cannot create a sandbox: ${reason}`);
}
