import { KernelError, runTool, ToolError } from "@caisson/linux";

/** Copies a file with its holes, sharing nothing. Out of space is an error with the code `ENOSPC`, as of a kernel call. */
export async function copyWhole(source: string, target: string): Promise<void> {
  try {
    await runTool("cp", ["--sparse=always", "--reflink=never", source, target], { env: { LC_ALL: "C" } });
  } catch (error) {
    if (!(error instanceof ToolError && error.errorOutput.includes("No space left on device"))) throw error;
    throw new KernelError("cp", "ENOSPC", `${source} to ${target}`, { cause: error });
  }
}
