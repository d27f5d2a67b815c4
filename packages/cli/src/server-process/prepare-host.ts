import { spawn } from "node:child_process";
import { once } from "node:events";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { PATHS } from "./paths.ts";

/**
 * Brings what a server needs of this host: Debian packages, where the script says what and why before it installs any, and the bundle of
 * the program that runs inside sandboxes, which takes 30 ms and is replaced only when its sources changed. Silent when nothing is missing.
 */
export async function prepareHost(): Promise<void> {
  if (process.getuid?.() !== 0) {
    const message = "The server needs root: it mounts volumes, makes networks and starts isolated processes";
    throw new CliError("NOT_ALLOWED", EXIT.authentication, message, "Run the same command with sudo.");
  }
  const packages = "The Debian packages that Caisson needs could not be installed";
  await runQuietly(PATHS.setup, ["debian"], packages);
  await runQuietly(process.execPath, [PATHS.buildAgent], "The program that runs inside sandboxes could not be bundled");
}

async function runQuietly(file: string, args: readonly string[], failure: string): Promise<void> {
  // What it has to say to people goes to standard error; standard output is left to the command itself.
  const child = spawn(file, args, { stdio: ["ignore", "ignore", process.stderr] });
  const [code] = await once(child, "exit");
  if (code === 0) return;
  const hint = "Mend what is said above, then run the command again. `caisson doctor` shows what is missing.";
  throw new CliError("SETUP_FAILED", EXIT.failure, failure, hint);
}
