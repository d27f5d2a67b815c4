import { mkdir, open, readFile, rename, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";

/** A server and an organization on it, as `caisson switch` saved them. */
export interface Profile {
  readonly endpoint: string;
  readonly token: string;
  readonly org?: string;
}

export interface ConfigFile {
  /** The name of the profile in use. */
  readonly current: string | null;
  readonly profiles: Readonly<Record<string, Profile>>;
}

const EMPTY: ConfigFile = { current: null, profiles: {} };

/** Where the file is: `--config`, CAISSON_CONFIG, or the user's configuration directory (XDG Base Directory Specification). */
export function configPath(given: string | undefined, environment: NodeJS.ProcessEnv): string {
  const chosen = given ?? environment.CAISSON_CONFIG;
  if (chosen) return chosen;
  return join(environment.XDG_CONFIG_HOME || join(homedir(), ".config"), "caisson", "config.json");
}

/** Reads the file; an absent one is empty. Calls `onExposed` when others than its owner can read the tokens in it. */
export async function readConfigFile(path: string, onExposed: (mode: string) => void): Promise<ConfigFile> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return EMPTY;
    throw invalid(path, "cannot be read", error);
  }
  const mode = (await stat(path)).mode & 0o777;
  if ((mode & 0o077) !== 0) onExposed(mode.toString(8));
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalid(path, "is not JSON", error);
  }
  if (isConfigFile(value)) return value;
  throw invalid(path, "does not have the form that `caisson switch` writes");
}

/** Writes the file so that only its owner can read it and a crash leaves either the old or the new one. */
export async function writeConfigFile(path: string, config: ConfigFile): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${process.pid}.new`;
  const file = await open(temporary, "wx", 0o600);
  try {
    await file.writeFile(`${JSON.stringify(config, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}

function isConfigFile(value: unknown): value is ConfigFile {
  if (!isRecord(value) || !isRecord(value.profiles)) return false;
  const { current, profiles } = value;
  return (current === null || typeof current === "string") && Object.values(profiles as object).every(isProfile);
}

function isProfile(value: unknown): value is Profile {
  if (!isRecord(value)) return false;
  const { endpoint, token, org } = value;
  return typeof endpoint === "string" && typeof token === "string" && (org === undefined || typeof org === "string");
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function invalid(path: string, what: string, cause?: unknown): CliError {
  const detail = cause instanceof Error ? `: ${cause.message}` : "";
  const hint = "Repair or remove the file, or name another one with --config.";
  return new CliError("INVALID_CONFIG", EXIT.usage, `The configuration file ${path} ${what}${detail}`, hint, { cause });
}
