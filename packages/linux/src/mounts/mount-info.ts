import { readFile } from "node:fs/promises";

/** One line of `/proc/<pid>/mountinfo`. */
export interface MountInfo {
  readonly id: number;
  readonly parentId: number;
  /** `major:minor` of the file system. */
  readonly device: string;
  /** The part of the file system that is shown: `/`, or the source directory of a bind mount. */
  readonly root: string;
  readonly target: string;
  readonly options: readonly string[];
  readonly type: string;
  readonly source: string;
  readonly superOptions: readonly string[];
}

/** Lists the mounts that a process sees (by default this one), in the order in which they were made. */
export async function readMounts(pid: number | "self" = "self"): Promise<readonly MountInfo[]> {
  const text = await readFile(`/proc/${pid}/mountinfo`, "utf8");
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map(parseLine);
}

/** The uppermost mount whose target is exactly `path`, or `null`. */
export async function findMount(path: string): Promise<MountInfo | null> {
  const mounts = await readMounts();
  return mounts.findLast((mount) => mount.target === path) ?? null;
}

function parseLine(line: string): MountInfo {
  const [before = "", after = ""] = line.split(" - ");
  const [id = "", parentId = "", device = "", root = "", target = "", options = ""] = before.split(" ");
  const [type = "", source = "", superOptions = ""] = after.split(" ");
  return {
    id: Number(id),
    parentId: Number(parentId),
    device,
    root: unescapeField(root),
    target: unescapeField(target),
    options: options.split(","),
    type,
    source: unescapeField(source),
    superOptions: superOptions.split(",").map(unescapeField),
  };
}

/** The kernel writes blanks, tabs, newlines and backslashes as three octal digits. */
function unescapeField(field: string): string {
  return field.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
