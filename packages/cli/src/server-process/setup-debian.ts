import { spawn } from "node:child_process";
import { once } from "node:events";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { PATHS } from "./paths.ts";

/** Installs the Debian packages that are missing. The script says what and why before it does; nothing missing, it is silent. */
export async function setupDebian(): Promise<void> {
  // Standard output is left to the command's own result.
  const child = spawn(PATHS.setup, ["debian"], { stdio: ["ignore", process.stderr, process.stderr] });
  const [code] = await once(child, "exit");
  if (code === 0) return;
  const hint = "Mend what is said above, then run the command again. `caisson doctor` shows what is missing.";
  throw new CliError(
    "SETUP_FAILED",
    EXIT.failure,
    "The Debian packages that Caisson needs could not be installed",
    hint,
  );
}
