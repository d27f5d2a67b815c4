import type { Environment } from "./environment.ts";
import type { ProcessTable } from "./process-table.ts";

/** What all connections of the sandbox share. */
export interface Sandbox {
  readonly environment: Environment;
  readonly processes: ProcessTable;
  readonly settings: Settings;
}

/** How the agent was started; read once from its process environment. */
export interface Settings {
  /** Unix socket that the agent listens on. */
  readonly socketPath: string;
  /** Where relative paths of all methods start (protocol.md 5.6): the home directory. */
  readonly defaultDirectory: string;
  /** The Deno program that runs the user's code: the one on the sandbox's PATH. */
  readonly denoPath: string;
}
