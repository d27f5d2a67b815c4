import { runTool, ToolError } from "@caisson/linux";
import { CaissonError } from "@caisson/model";

/** crun starts a sandbox several times faster. */
const CANDIDATES = ["crun", "runc"];

/** An OCI runtime that is installed. */
export interface OciProgram {
  readonly path: string;
  /** Global options of every call. */
  readonly args: readonly string[];
  /** runc must be told the cgroup and the ids once more, because it cannot be told to take what is there. */
  readonly isRunc: boolean;
}

/** The OCI runtime to use: the given one, or the first that is installed. */
export async function findOciRuntime(wanted?: string): Promise<OciProgram> {
  for (const path of wanted === undefined ? CANDIDATES : [wanted]) {
    const version = await readRuntimeVersion(path);
    if (version === null) continue;
    if (version.startsWith("crun")) return { path, args: ["--cgroup-manager=disabled"], isRunc: false };
    return { path, args: [], isRunc: true };
  }
  throw new CaissonError(
    "INTERNAL_ERROR",
    `Cannot start sandboxes: ${wanted ?? CANDIDATES.join(" or ")} is not installed. Run: apt-get install crun`,
  );
}

/** The first line of its version, or `null` when it cannot be run. */
export async function readRuntimeVersion(path: string): Promise<string | null> {
  // crun makes its state directory even to tell its version, and would leave /run/crun behind. This one is there, and nothing is put into it.
  try {
    return (await runTool(path, ["--root", "/", "--version"])).split("\n")[0] ?? "";
  } catch (error) {
    if (error instanceof ToolError) return null;
    throw error;
  }
}
