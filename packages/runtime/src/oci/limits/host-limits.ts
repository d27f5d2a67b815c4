import { readFile, writeFile } from "node:fs/promises";
import { totalmem } from "node:os";
import { join } from "node:path";
import { type Cgroups, hierarchyOf } from "@caisson/linux";

/** Processes and threads that stay with the server and the host: an eighth of them, and at least so many. */
const PROCESS_RESERVE_MIN = 512;
const PROCESS_RESERVE_PART = 8;
/**
 * Counted for the whole host, and divided by no limit of the kernel, so that one sandbox could take all. `bytesEach`: what the kernel charges to a
 * sandbox's memory for one, at least.
 */
const UNDIVIDED = [
  { setting: "fs.file-max", path: "/proc/sys/fs/file-max", bytesEach: 200 },
  { setting: "fs.aio-max-nr", path: "/proc/sys/fs/aio-max-nr", bytesEach: 64 },
] as const;
const OUT_OF_REACH = 2n ** 63n - 1n;

/** What all sandboxes of a host can have together, and the setting of the kernel that says so. */
export interface HostLimit {
  readonly total: number;
  readonly setting: string;
}

/** Processes and threads, without the server's reserve. */
export async function readProcessLimit(cgroups: Cgroups): Promise<HostLimit> {
  const hierarchy = hierarchyOf(cgroups, "pids");
  const limits = await Promise.all([
    limitOf("kernel.pid_max", "/proc/sys/kernel/pid_max"),
    limitOf("kernel.threads-max", "/proc/sys/kernel/threads-max"),
    // A server in a container has the container's.
    hierarchy === null ? null : limitOf("pids.max of the server's cgroup", join(hierarchy.mountPath, "pids.max")),
  ]);
  const { total, setting } = limits
    .filter((limit) => limit !== null)
    .reduce((least, limit) => (limit.total < least.total ? limit : least));
  const reserve = Math.max(Math.floor(total / PROCESS_RESERVE_PART), PROCESS_RESERVE_MIN);
  return { total: Math.max(total - reserve, 0), setting };
}

/** Pseudo-terminals. The kernel itself keeps `kernel.pty.reserve` of them for the host. */
export async function readTerminalLimit(): Promise<HostLimit> {
  const setting = "kernel.pty.max";
  const max = await limitOf(setting, "/proc/sys/kernel/pty/max");
  const reserve = await limitOf("kernel.pty.reserve", "/proc/sys/kernel/pty/reserve");
  return { total: Math.max((max?.total ?? 4096) - (reserve?.total ?? 0), 0), setting };
}

/** Settings of limits that one sandbox could use up before its memory is full. */
export async function readLimitsInReach(): Promise<readonly string[]> {
  const limits = await Promise.all(
    UNDIVIDED.map(async ({ setting, path, bytesEach }) => {
      const limit = await limitOf(setting, path);
      return limit !== null && limit.total < totalmem() / bytesEach ? [setting] : [];
    }),
  );
  return limits.flat();
}

/**
 * Puts what no limit divides (open files, places for asynchronous I/O) out of reach, so that each sandbox's own memory limits what it takes. systemd does so
 * at boot for open files. The settings stay so at the end. Where that is not allowed, `doctor` says what to do.
 */
export async function putLimitsOutOfReach(): Promise<void> {
  const inReach = await readLimitsInReach();
  const paths = UNDIVIDED.filter(({ setting }) => inReach.includes(setting)).map(({ path }) => path);
  await Promise.all(paths.map((path) => writeFile(path, String(OUT_OF_REACH)).catch(() => undefined)));
}

async function limitOf(setting: string, path: string): Promise<HostLimit | null> {
  const text = await readFile(path, "utf8").catch(() => "");
  return /^\d+/.test(text) ? { total: Number(text), setting } : null;
}
