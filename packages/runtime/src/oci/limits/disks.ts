import { stat } from "node:fs/promises";
import type { MountSpec, RootSpec } from "../../runtime.ts";

/** The block devices that a sandbox reads and writes, each once, as `major:minor`. */
export async function disksOf(root: RootSpec, mounts: readonly MountSpec[]): Promise<readonly string[]> {
  const roots = root.kind === "persistent" ? [root.path] : [root.lowerPath, root.scratchPath];
  const paths = [...roots, ...mounts.map(({ sourcePath }) => sourcePath)];
  const devices = await Promise.all(paths.map(async (path) => deviceNumbers((await stat(path)).dev)));
  // Major number 0: a file system without a device, such as tmpfs.
  return [...new Set(devices)].filter((device) => !device.startsWith("0:"));
}

/** As in gnu_dev_major(3): `st_dev` packs both numbers into one. */
function deviceNumbers(dev: number): string {
  const major = (dev >>> 8) & 0xfff;
  const minor = (dev & 0xff) | ((dev >>> 12) & 0xfff00);
  return `${major}:${minor}`;
}
