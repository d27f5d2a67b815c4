import { runTool } from "@caisson/linux";

/** The host's variables mean nothing in there: its TMPDIR need not exist, and its NODE_OPTIONS name files that are not there. */
const VARIABLES = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"];

/** Runs a program of a root that is being built in there. Resolves with its standard output; throws `ToolError`. */
export async function runInRoot(
  root: string,
  command: readonly string[],
  options: { readonly signal?: AbortSignal } = {},
): Promise<string> {
  return await runTool("chroot", [root, "/usr/bin/env", "--ignore-environment", ...VARIABLES, ...command], options);
}
