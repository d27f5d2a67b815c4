import { readdir, readFile, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { passFaultPoint } from "./ffi.ts";
import { hasErrorCode } from "./kernel-error.ts";
import { readMounts } from "./mount-info.ts";

/** One mounted cgroup hierarchy. */
export interface CgroupHierarchy {
  readonly version: 1 | 2;
  readonly mountPath: string;
  /** Controllers of this hierarchy; a named v1 hierarchy without one gives `name=…`. */
  readonly controllers: readonly string[];
}

/**
 * `v2`: one unified hierarchy. `v1`: one hierarchy per controller. `hybrid`: v1 with an extra v2 mount, which crun refuses when that one has
 * controllers. `none`: nothing is mounted, so nothing can be limited.
 */
export type CgroupLayout = "v2" | "v1" | "hybrid" | "none";

export interface Cgroups {
  readonly layout: CgroupLayout;
  readonly hierarchies: readonly CgroupHierarchy[];
  /**
   * The empty mount point of a unified hierarchy that was hidden, or `null`. crun makes its directories there all the same, as ordinary
   * files in memory.
   */
  readonly hiddenPath: string | null;
}

const UNIFIED_PATH = "/sys/fs/cgroup/unified";

/** Reads which cgroup hierarchies this process can reach. */
export async function readCgroups(): Promise<Cgroups> {
  const mounts = (await readMounts()).filter(({ type }) => type === "cgroup" || type === "cgroup2");
  const hierarchies = await Promise.all(
    mounts.map(async ({ type, target, superOptions }): Promise<CgroupHierarchy> => {
      if (type === "cgroup") return { version: 1, mountPath: target, controllers: v1Controllers(superOptions) };
      const text = await readFile(join(target, "cgroup.controllers"), "utf8");
      return { version: 2, mountPath: target, controllers: text.trim().split(/\s+/).filter(Boolean) };
    }),
  );
  const layout = layoutOf(hierarchies);
  return { layout, hierarchies, hiddenPath: layout === "v1" ? UNIFIED_PATH : null };
}

function layoutOf(hierarchies: readonly CgroupHierarchy[]): CgroupLayout {
  const versions = new Set(hierarchies.map(({ version }) => version));
  if (versions.size === 2) return "hybrid";
  if (versions.has(2)) return "v2";
  return versions.has(1) ? "v1" : "none";
}

function v1Controllers(superOptions: readonly string[]): readonly string[] {
  return superOptions.filter((option) => option !== "rw" && option !== "ro" && !option.startsWith("release_agent="));
}

/** The hierarchy that governs `controller`, or `null`. */
export function hierarchyOf(cgroups: Cgroups, controller: string): CgroupHierarchy | null {
  return cgroups.hierarchies.find(({ controllers }) => controllers.includes(controller)) ?? null;
}

/** Names of the cgroups directly below `path` (which starts with a slash), in whatever hierarchy they are. */
export async function listCgroups(cgroups: Cgroups, path: string): Promise<readonly string[]> {
  const names = new Set<string>();
  const directories = cgroups.hierarchies.map(({ mountPath }) => mountPath);
  if (cgroups.hiddenPath !== null) directories.push(cgroups.hiddenPath);
  for (const directory of directories) {
    try {
      for (const entry of await readdir(join(directory, path), { withFileTypes: true })) {
        if (entry.isDirectory()) names.add(entry.name);
      }
    } catch (error) {
      if (!hasErrorCode(error, "ENOENT")) throw error;
    }
  }
  return [...names];
}

/** Process ids in the cgroup `path` and below it, in any hierarchy, as this PID namespace numbers them. */
export async function cgroupProcesses(cgroups: Cgroups, path: string): Promise<readonly number[]> {
  const pids = new Set<number>();
  for (const { mountPath } of cgroups.hierarchies) {
    for (const directory of await cgroupTree(join(mountPath, path))) {
      const text = await readFile(join(directory, "cgroup.procs"), "utf8").catch(() => "");
      for (const line of text.split("\n")) {
        // Processes outside this PID namespace read as 0, and nobody here can signal them.
        if (Number(line) > 0) pids.add(Number(line));
      }
    }
  }
  return [...pids];
}

/** Removes the cgroup `path` and all below it from every hierarchy. Absent is success; `EBUSY` means that a process is still in it. */
export async function removeCgroup(cgroups: Cgroups, path: string): Promise<void> {
  if (cgroups.hiddenPath !== null) await rm(join(cgroups.hiddenPath, path), { recursive: true, force: true });
  for (const { mountPath } of cgroups.hierarchies) {
    for (const directory of await cgroupTree(join(mountPath, path))) {
      await passFaultPoint({ name: "cgroup rmdir", detail: directory });
      try {
        await rmdir(directory);
      } catch (error) {
        if (!hasErrorCode(error, "ENOENT")) throw error;
      }
    }
  }
}

/** The directory and all below it, children first; empty when it does not exist. */
async function cgroupTree(directory: string): Promise<readonly string[]> {
  try {
    const children: string[] = [];
    for (const entry of await readdir(directory, { withFileTypes: true })) {
      if (entry.isDirectory()) children.push(...(await cgroupTree(join(directory, entry.name))));
    }
    return [...children, directory];
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return [];
    throw error;
  }
}
