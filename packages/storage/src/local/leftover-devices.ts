import { mkdir, mkdtemp, open, readdir, rmdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { KernelError, type LoopStatus, listLoopDevices, mountFileSystem, thaw, unmount } from "@caisson/linux";
import { CaissonError } from "@caisson/model";

/**
 * Waits until no loop device of an earlier run is left.
 *
 * Two devices over one file, each with a file system that believes to be alone, destroy it. When a server dies the kernel takes its mounts
 * and devices down, but that takes a moment; and a file system that was frozen at that moment stays, out of sight, with its device and
 * everything below, until somebody thaws it. So: wait a little, then mount what is still there, thaw it and let go; wait again, and give up
 * with an error rather than go on.
 */
export async function settleLeftoverDevices(
  find: () => Promise<readonly LoopStatus[]>,
  options: { readonly what: string; readonly temporaryDirectory: string; readonly timeoutMs: number },
): Promise<void> {
  const deadline = performance.now() + options.timeoutMs;
  const graceMs = Math.min(300, options.timeoutMs / 2);
  const thawAfter = performance.now() + graceMs;
  for (;;) {
    const left = await find();
    if (left.length === 0) return;
    if (performance.now() > deadline) {
      throw new CaissonError(
        "INTERNAL_ERROR",
        `Cannot open ${options.what}: ${left.map(({ path }) => path).join(", ")} of an earlier run still uses it after ` +
          `${options.timeoutMs} ms. End the process or unmount the directory that holds it`,
      );
    }
    if (performance.now() > thawAfter) for (const device of left) await thawHidden(device, options.temporaryDirectory);
    await delay(20);
  }
}

/** Loop devices whose file is one of those in `directories`. */
export async function findDevicesOn(directories: readonly string[]): Promise<readonly LoopStatus[]> {
  const devices = await listLoopDevices();
  if (devices.length === 0) return [];
  const files = new Set<string>();
  for (const directory of directories) {
    for (const name of await readdir(directory)) {
      const { dev, ino } = await stat(join(directory, name));
      files.add(`${dev}:${ino}`);
    }
  }
  return devices.filter(({ dev, ino }) => files.has(`${dev}:${ino}`));
}

/** Loop devices over the pool file, and those over files of the file system in it. */
export async function findDevicesOfPool(poolFile: string): Promise<readonly LoopStatus[]> {
  const { dev, ino } = await stat(poolFile);
  const devices = await listLoopDevices();
  const pools = devices.filter((device) => device.dev === dev && device.ino === ino);
  const numbers = await Promise.all(pools.map(async ({ path }) => (await stat(path)).rdev));
  return [...devices.filter((device) => numbers.includes(device.dev)), ...pools];
}

/** Mounting the device of a frozen file system that nobody sees any more brings that same file system back into sight. */
async function thawHidden(device: LoopStatus, temporaryDirectory: string): Promise<void> {
  await mkdir(temporaryDirectory, { recursive: true });
  const target = await mkdtemp(join(temporaryDirectory, "thaw-"));
  try {
    await mountFileSystem({ type: "ext4", source: device.path, target });
    await using mounted = await open(target, "r");
    thaw(mounted, device.path);
  } catch (error) {
    // Not an ext4 file system, gone meanwhile, or used by somebody in sight: the caller looks again and says which device is left.
    if (!(error instanceof KernelError)) throw error;
  } finally {
    await unmount(target);
    await rmdir(target);
  }
}
