import { writeFileSync } from "node:fs";
import { mkdir, readdir, readFile, rm, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type CallOptions, passFaultPoint, passFaultPointSync } from "../calls/ffi.ts";
import { hasErrorCode, KernelError } from "../calls/kernel-error.ts";
import { readMounts } from "../mounts/mount-info.ts";

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
  /** Controllers that new cgroups have. */
  readonly usedControllers: readonly string[];
  /**
   * The empty mount point of a unified hierarchy that was hidden, or `null`. crun makes its directories there all the same, as ordinary
   * files in memory.
   */
  readonly hiddenPath: string | null;
}

const UNIFIED_PATH = "/sys/fs/cgroup/unified";

const CONTROLLERS = ["memory", "cpu", "cpuacct", "cpuset", "pids", "devices", "freezer"];
/** By the names of version 1 and 2. Only where disks are limited: the kernel carries out the I/O of such cgroups apart from that of others. */
const DISK_CONTROLLERS = ["blkio", "io"];

/** Reads which cgroup hierarchies this process can reach. `isDiskLimited`: `limitSettings` will be given limits for disks. */
export async function readCgroups({ isDiskLimited = false } = {}): Promise<Cgroups> {
  const all = (await readMounts()).filter(({ type }) => type === "cgroup" || type === "cgroup2");
  // A second mount of a hierarchy, for example for a chroot, shows the same cgroups.
  const mounts = all.filter(({ device }, index) => all.findIndex((mount) => mount.device === device) === index);
  const hierarchies = await Promise.all(
    mounts.map(async ({ type, target, superOptions }): Promise<CgroupHierarchy> => {
      if (type === "cgroup") return { version: 1, mountPath: target, controllers: v1Controllers(superOptions) };
      const text = await readFile(join(target, "cgroup.controllers"), "utf8");
      return { version: 2, mountPath: target, controllers: text.trim().split(/\s+/).filter(Boolean) };
    }),
  );
  const layout = layoutOf(hierarchies);
  const usedControllers = isDiskLimited ? [...CONTROLLERS, ...DISK_CONTROLLERS] : CONTROLLERS;
  return { layout, hierarchies, usedControllers, hiddenPath: layout === "v1" ? UNIFIED_PATH : null };
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

/** The hierarchy that can limit disks, or `null`. */
export function diskHierarchy(cgroups: Cgroups): CgroupHierarchy | null {
  return hierarchyOf(cgroups, "io") ?? hierarchyOf(cgroups, "blkio");
}

function usedHierarchies({ hierarchies, usedControllers }: Cgroups): readonly CgroupHierarchy[] {
  return hierarchies.filter(
    ({ version, controllers }) => version === 2 || controllers.some((name) => usedControllers.includes(name)),
  );
}

/** Makes the cgroup `parent/name` in every hierarchy that has a controller in use. There already is success. */
export async function createCgroup(cgroups: Cgroups, parent: string, name: string): Promise<void> {
  for (const { version, mountPath, controllers } of usedHierarchies(cgroups)) {
    await passFaultPoint({ name: "cgroup mkdir", detail: join(mountPath, parent, name) });
    await mkdir(join(mountPath, parent, name), { recursive: true, mode: 0o755 });
    if (version === 1) {
      if (controllers.includes("cpuset")) await inheritProcessors(mountPath, parent, name);
      continue;
    }
    // A version 2 cgroup has the controllers that all cgroups above it pass on.
    const passedOn = cgroups.usedControllers.filter((controller) => controllers.includes(controller));
    for (const directory of [mountPath, join(mountPath, parent)]) await passOn(directory, passedOn);
  }
}

async function passOn(directory: string, controllers: readonly string[]): Promise<void> {
  try {
    await writeFile(join(directory, "cgroup.subtree_control"), controllers.map((name) => `+${name}`).join(" "));
  } catch (error) {
    if (!hasErrorCode(error, "EBUSY")) throw error;
    // Only the cgroup of the whole machine may have both processes and cgroups with limits.
    throw new KernelError(
      "cgroup.subtree_control",
      "EBUSY",
      `${directory}: sandboxes cannot be limited, because processes are in the cgroup above theirs. In a container, give Caisson the host's cgroups (docker run --cgroupns=host), or move these processes to a cgroup below`,
    );
  }
}

/** A version 1 cgroup takes no process before its processors and its memory nodes are set. */
async function inheritProcessors(mountPath: string, parent: string, name: string): Promise<void> {
  for (const file of ["cpuset.mems", "cpuset.cpus"]) {
    const all = await readFile(join(mountPath, file), "utf8");
    for (const path of [parent, join(parent, name)]) await writeFile(join(mountPath, path, file), all);
  }
}

/** The processors that new cgroups may use. */
export async function readProcessors(cgroups: Cgroups): Promise<readonly number[]> {
  const hierarchy = hierarchyOf(cgroups, "cpuset");
  if (hierarchy === null) return [];
  const file = hierarchy.version === 1 ? "cpuset.cpus" : "cpuset.cpus.effective";
  return parseProcessors(await readFile(join(hierarchy.mountPath, file), "utf8"));
}

/** Reads a list as the kernel writes it, for example `0-3,8`. */
export function parseProcessors(list: string): readonly number[] {
  return list
    .trim()
    .split(",")
    .filter((part) => part !== "")
    .flatMap((part) => {
      const [first = 0, last = first] = part.split("-").map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    });
}

/** Moves a process into a cgroup. May wait 10 to 25 ms for the kernel (an RCU grace period): not on a path that somebody waits for. */
export async function joinCgroup(cgroups: Cgroups, path: string, pid: number): Promise<void> {
  for (const { mountPath } of usedHierarchies(cgroups)) {
    await passFaultPoint({ name: "cgroup join", detail: join(mountPath, path) });
    await writeFile(join(mountPath, path, "cgroup.procs"), String(pid));
  }
}

export interface CgroupLimits {
  readonly memoryBytes: number;
  readonly cpuCount: number;
  /** Which processors may be used; absent: all. Needs the controller cpuset. */
  readonly processors?: readonly number[];
  readonly pidsMax: number;
  /** Needs cgroups that were read with `isDiskLimited`. */
  readonly disk?: DiskLimits;
}

/** What each device may do every second, in each direction. Version 1 counts reads, direct and synced writes, not those from the page cache. */
export interface DiskLimits {
  /** As `major:minor`. */
  readonly devices: readonly string[];
  readonly bytesPerSecond?: number;
  readonly operationsPerSecond?: number;
}

/** A file of a cgroup and what is written to it. Plain data, so that another thread can write it. */
export interface CgroupSetting {
  readonly path: string;
  readonly value: string;
}

/** Limits as settings, in their order; swap is not used beyond the memory limit. A controller that the host lacks limits nothing (`doctor` says so). */
export function limitSettings(cgroups: Cgroups, path: string, limits: CgroupLimits): readonly CgroupSetting[] {
  const periodUs = 100_000;
  const quotaUs = Math.round(limits.cpuCount * periodUs);
  const memory = String(limits.memoryBytes);
  const pids: Values = [["pids.max", String(limits.pidsMax)]];
  const processors: Values = limits.processors === undefined ? [] : [["cpuset.cpus", limits.processors.join(",")]];
  const set = (controller: string, v1: Values, v2: Values): readonly CgroupSetting[] => {
    const hierarchy = hierarchyOf(cgroups, controller);
    return hierarchy === null ? [] : settingsIn(hierarchy, path, hierarchy.version === 1 ? v1 : v2);
  };
  return [
    ...set(
      "memory",
      [
        ["memory.limit_in_bytes", memory],
        ["memory.memsw.limit_in_bytes", memory],
      ],
      [
        ["memory.max", memory],
        ["memory.swap.max", "0"],
      ],
    ),
    ...set(
      "cpu",
      [
        ["cpu.cfs_period_us", String(periodUs)],
        ["cpu.cfs_quota_us", String(quotaUs)],
      ],
      [["cpu.max", `${quotaUs} ${periodUs}`]],
    ),
    ...set("pids", pids, pids),
    ...set("cpuset", processors, processors),
    ...(limits.disk === undefined ? [] : diskSettings(cgroups, path, limits.disk)),
  ];
}

/**
 * What part of a busy processor a cgroup gets beside others: `low` a tenth of what a new one (`normal`) gets.
 */
export function weightSettings(cgroups: Cgroups, path: string, weight: "low" | "normal"): readonly CgroupSetting[] {
  const hierarchy = hierarchyOf(cgroups, "cpu");
  if (hierarchy === null) return [];
  const [file, low, normal] = hierarchy.version === 1 ? ["cpu.shares", "102", "1024"] : ["cpu.weight", "10", "100"];
  return settingsIn(hierarchy, path, [[file, weight === "low" ? low : normal]]);
}

function diskSettings(cgroups: Cgroups, path: string, limits: DiskLimits): readonly CgroupSetting[] {
  const hierarchy = diskHierarchy(cgroups);
  if (hierarchy === null) return [];
  const units = [
    ["bps", limits.bytesPerSecond],
    ["iops", limits.operationsPerSecond],
  ] as const;
  const values = limits.devices.flatMap((device) =>
    units.flatMap(([unit, value]): Values => {
      if (value === undefined) return [];
      if (hierarchy.version === 2) return [["io.max", `${device} r${unit}=${value} w${unit}=${value}`]];
      return ["read", "write"].map((direction) => [`blkio.throttle.${direction}_${unit}_device`, `${device} ${value}`]);
    }),
  );
  return settingsIn(hierarchy, path, values);
}

type Values = readonly (readonly [file: string, value: string])[];

function settingsIn({ mountPath }: CgroupHierarchy, path: string, values: Values): readonly CgroupSetting[] {
  return values.map(([file, value]) => ({ path: join(mountPath, path, file), value }));
}

/** Writes settings one after the other. */
export async function writeCgroup(settings: readonly CgroupSetting[]): Promise<void> {
  await passFaultPoint(writeOf(settings));
  for (const setting of settings)
    await writeFile(setting.path, setting.value, { flag: "r+" }).catch((error: unknown) =>
      requireOptional(setting, error),
    );
}

/** The same for a thread of its own, which waits for nothing but the kernel. */
export function writeCgroupSync(settings: readonly CgroupSetting[]): void {
  passFaultPointSync(writeOf(settings));
  for (const setting of settings) {
    try {
      writeFileSync(setting.path, setting.value, { flag: "r+" });
    } catch (error) {
      requireOptional(setting, error);
    }
  }
}

function writeOf(settings: readonly CgroupSetting[]): CallOptions {
  return { name: "cgroup write", detail: settings.map(({ path }) => path).join(", ") };
}

/** Files about swap are absent where the kernel does not account for it. */
function requireOptional({ path }: CgroupSetting, error: unknown): void {
  const isSwap = path.includes("memsw") || path.includes("swap");
  if (!isSwap || !hasErrorCode(error, "ENOENT")) throw error;
}

/** Lets a version 1 cgroup use only these character devices, given as `major:minor`. Version 2 has no files for that. */
export async function limitCgroupDevices(cgroups: Cgroups, path: string, devices: readonly string[]): Promise<void> {
  const hierarchy = hierarchyOf(cgroups, "devices");
  if (hierarchy === null) return;
  const directory = join(hierarchy.mountPath, path);
  await writeFile(join(directory, "devices.deny"), "a");
  for (const device of devices) await writeFile(join(directory, "devices.allow"), `c ${device} rw`);
}

/**
 * Process ids in the cgroup `path` and below it, as this PID namespace numbers them. One hierarchy says it all, the first: `joinCgroup` begins with that, and
 * a child is where its parent is.
 */
export async function cgroupProcesses(cgroups: Cgroups, path: string): Promise<readonly number[]> {
  const [first] = usedHierarchies(cgroups);
  if (first === undefined) return [];
  const pids = new Set<number>();
  for (const directory of await cgroupTree(join(first.mountPath, path))) {
    const text = await readFile(join(directory, "cgroup.procs"), "utf8").catch(() => "");
    for (const line of text.split("\n")) {
      // Processes outside this PID namespace read as 0, and nobody here can signal them.
      if (Number(line) > 0) pids.add(Number(line));
    }
  }
  return [...pids];
}

/** Processes of the cgroup `path` that the kernel has ended for want of memory; 0 where it does not say, or when the cgroup is gone. */
export async function oomKills(cgroups: Cgroups, path: string): Promise<number> {
  const memory = hierarchyOf(cgroups, "memory");
  if (memory === null) return 0;
  const file = memory.version === 1 ? "memory.oom_control" : "memory.events";
  const text = await readFile(join(memory.mountPath, path, file), "utf8").catch(() => "");
  return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
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
