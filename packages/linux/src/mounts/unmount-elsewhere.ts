import { fileURLToPath } from "node:url";
import { runTool } from "../processes/run-tool.ts";
import { openNamespace } from "../processes/user-namespace.ts";
import { readMounts } from "./mount-info.ts";

/**
 * Takes every mount of a file system type away in the mount namespace of a process, at once and whoever still uses them. The process is gone, or
 * has no such mount: success. A process of its own enters the namespace, in which it runs no program.
 */
export async function unmountElsewhere(pid: number, type: string): Promise<void> {
  const namespace = await openNamespace(pid, "mnt").catch(() => null);
  if (namespace === null) return;
  try {
    const mounts = await readMounts(pid).catch(() => []);
    const targets = mounts.filter((mount) => mount.type === type).map(({ target }) => target);
    if (targets.length === 0) return;
    const program = fileURLToPath(new URL("./unmount-elsewhere-child.ts", import.meta.url));
    await runTool(process.execPath, [program, `/proc/${process.pid}/fd/${namespace.fd}`, ...targets.reverse()]);
  } finally {
    await namespace.close();
  }
}
