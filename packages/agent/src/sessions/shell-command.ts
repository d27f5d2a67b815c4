import type { Sandbox } from "../host/sandbox.ts";
import { resolveCommand } from "../processes/resolve-command.ts";

const FALLBACK_SHELL = "/bin/sh";

/** The shell of the sandbox and its arguments: for a line, or as a login shell. */
export function shellCommand(
  { environment, settings }: Sandbox,
  line: string | null,
): { readonly command: string; readonly args: readonly string[] } {
  const command = usableShell(environment.get("SHELL") ?? FALLBACK_SHELL, settings.defaultDirectory);
  return { command, args: line === null ? ["-l"] : ["-c", line] };
}

/** A root may lack the shell that the variable names. */
function usableShell(shell: string, directory: string): string {
  try {
    return resolveCommand(shell, "", directory);
  } catch {
    return FALLBACK_SHELL;
  }
}
