import { runTool, ToolError } from "@caisson/linux";
import { CaissonError } from "@caisson/model";

/** crun starts a sandbox several times faster. */
const CANDIDATES = ["crun", "runc"];

/** The OCI runtime to use: the given one, or the first that is installed. */
export async function findOciRuntime(wanted?: string): Promise<string> {
  for (const path of wanted === undefined ? CANDIDATES : [wanted]) {
    if ((await readRuntimeVersion(path)) !== null) return path;
  }
  throw new CaissonError(
    "INTERNAL_ERROR",
    `Cannot start sandboxes: ${wanted ?? CANDIDATES.join(" or ")} is not installed. Run: apt-get install crun`,
  );
}

/** The first line of its version, or `null` when it cannot be run. */
export async function readRuntimeVersion(path: string): Promise<string | null> {
  try {
    return (await runTool(path, ["--version"])).split("\n")[0] ?? "";
  } catch (error) {
    if (error instanceof ToolError) return null;
    throw error;
  }
}
