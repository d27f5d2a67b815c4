import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { listLoopPaths, readBackingFile } from "../src/blocks/loop-device.ts";
import { readMounts } from "../src/mounts/mount-info.ts";
import { testTimeoutMs } from "./test-timeout.ts";

/** Says what belongs to a test. Anything that names neither is somebody else's and is not looked at. */
export interface LeakScope {
  /** The test's own directory, absolute and without symbolic links in it. It must be gone, too. */
  readonly directory?: string;
  /** A name that the test gave to cgroups, network namespaces and interfaces; a prefix of theirs is enough. */
  readonly instance?: string;
}

/**
 * Fails when something of the test is left on the host: mounts, loop devices, processes, open descriptors, cgroups, network namespaces,
 * interfaces, files. The kernel takes some of them away with a delay, so it looks again until the time is over.
 */
export async function assertNoLeaks(scope: LeakScope, timeoutMs = 3000): Promise<void> {
  const deadline = performance.now() + testTimeoutMs(timeoutMs);
  for (;;) {
    const leaks = await findLeaks(scope);
    if (leaks.length === 0) return;
    if (performance.now() > deadline) throw new Error(`left behind:\n  ${leaks.join("\n  ")}`);
    await delay(20);
  }
}

/** One line for each thing that is left. */
export async function findLeaks({ directory, instance }: LeakScope): Promise<readonly string[]> {
  const found = await Promise.all([
    ...(directory === undefined ? [] : [mounts(directory), loopDevices(directory), files(directory)]),
    ...(instance === undefined ? [] : [cgroups(instance), networkNamespaces(instance), interfaces(instance)]),
    processes([directory, instance].filter((text) => text !== undefined)),
  ]);
  return found.flat();
}

function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

async function mounts(directory: string): Promise<readonly string[]> {
  const all = await readMounts();
  return all
    .filter(({ target }) => isBelow(target, directory))
    .map(({ type, target }) => `mount: ${type} on ${target}`);
}

async function loopDevices(directory: string): Promise<readonly string[]> {
  const files = await Promise.all(
    (await listLoopPaths()).map(async (path) => ({ path, file: await readBackingFile(path) })),
  );
  return files.flatMap(({ path, file }) =>
    file !== null && isBelow(file.replace(/ \(deleted\)$/, ""), directory) ? [`loop device: ${path} over ${file}`] : [],
  );
}

async function files(directory: string): Promise<readonly string[]> {
  const isThere = await stat(directory).then(
    () => true,
    () => false,
  );
  return isThere ? [`file: ${directory}`] : [];
}

/** Processes that mention the test in their arguments or hold a file of it open; of this process only the open files count. */
async function processes(texts: readonly string[]): Promise<readonly string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const ancestors = await ancestorsOfThis();
  const found = await Promise.all(
    pids.map(async (pid) => {
      const isOurs = ancestors.has(Number(pid));
      const command = isOurs ? "" : await readOr(`/proc/${pid}/cmdline`);
      const links = await openPaths(pid);
      const mentions = [command, ...links].filter((value) => texts.some((text) => value.includes(text)));
      return mentions.slice(0, 1).map((value) => `process ${pid}: ${value.replaceAll("\0", " ")}`);
    }),
  );
  return found.flat();
}

async function openPaths(pid: string): Promise<readonly string[]> {
  const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const paths = [`/proc/${pid}/cwd`, `/proc/${pid}/root`, ...descriptors.map((name) => `/proc/${pid}/fd/${name}`)];
  // Processes and descriptors may end while they are looked at; then they are no leak.
  return Promise.all(paths.map((path) => readlink(path).catch(() => "")));
}

async function ancestorsOfThis(): Promise<ReadonlySet<number>> {
  const pids = new Set<number>();
  for (let pid = process.pid; pid > 0 && !pids.has(pid); ) {
    pids.add(pid);
    const status = await readOr(`/proc/${pid}/status`);
    pid = Number(/^PPid:\s*(\d+)$/m.exec(status)?.[1] ?? 0);
  }
  return pids;
}

async function cgroups(instance: string): Promise<readonly string[]> {
  const root = "/sys/fs/cgroup";
  const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => entry.isDirectory() && entry.name.includes(instance))
    .map((entry) => `cgroup: ${join(entry.parentPath, entry.name)}`);
}

async function networkNamespaces(instance: string): Promise<readonly string[]> {
  const names = await readdir("/run/netns").catch(() => []);
  return names.filter((name) => name.includes(instance)).map((name) => `network namespace: ${name}`);
}

async function interfaces(instance: string): Promise<readonly string[]> {
  const names = await readdir("/sys/class/net").catch(() => []);
  return names.filter((name) => basename(name).startsWith(instance)).map((name) => `interface: ${name}`);
}

async function readOr(path: string): Promise<string> {
  return readFile(path, "utf8").catch(() => "");
}
