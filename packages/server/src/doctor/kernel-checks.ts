import { constants } from "node:fs";
import { access, readFile, stat } from "node:fs/promises";
import { release } from "node:os";
import {
  BlockTrace,
  BlockTracing,
  type Cgroups,
  diskHierarchy,
  haltsWhenIdle,
  hierarchyOf,
  keepProcessorsAwake,
  readCgroups,
  runTool,
} from "@caisson/linux";
import { type Check, missing, ok, warning } from "./check.ts";
import { isOnPath } from "./host-checks.ts";

/** Overlay file systems over layers with translated owners exist since this version. */
const KERNEL_MIN = [5, 19] as const;

export async function checkKernel(): Promise<readonly Check[]> {
  return [
    checkVersion(release()),
    await checkFileSystems(await readFile("/proc/filesystems", "utf8")),
    await checkFile("loop devices", "/dev/loop-control", "Load the module: modprobe loop"),
    await checkFuse(),
    await checkUserNamespaces(),
    await checkProgram("virtual interfaces", "ip", ["link", "add", "type", "veth"], "Load the module: modprobe veth"),
    await checkProgram(
      "packet filter",
      "nft",
      [PROBE_RULES],
      "Load the modules: modprobe nf_tables nft_nat nft_masq nft_fib_inet",
    ),
    judgeCgroups(await readCgroups()),
    await checkProcessors(),
    await checkTracing(),
    await checkSpaceLimits("/sys/fs"),
  ];
}

/** What the sandbox network asks of nftables, tried in a network namespace that ends with the program. */
const PROBE_RULES = [
  "add table inet t",
  "add chain inet t n { type nat hook postrouting priority srcnat; }",
  "add rule inet t n masquerade",
  "add chain inet t f { type filter hook forward priority filter; }",
  "add rule inet t f fib saddr . iif oif missing drop",
  "add rule inet t f reject with icmp admin-prohibited",
].join("; ");

export function checkVersion(version: string): Check {
  const [major = 0, minor = 0] = version.split(".").map((part) => Number.parseInt(part, 10));
  const isEnough = major > KERNEL_MIN[0] || (major === KERNEL_MIN[0] && minor >= KERNEL_MIN[1]);
  if (isEnough) return ok("kernel", version);
  return missing("kernel", version, `Install Linux ${KERNEL_MIN.join(".")} or later (Debian 12 and 13 have one)`);
}

/** Judges by `/proc/filesystems`; what is not there may still be loaded on demand. */
export async function checkFileSystems(registered: string, isLoadable = isModuleLoadable): Promise<Check> {
  const known = new Set(registered.split(/\s+/));
  const has = async (name: string): Promise<boolean> => known.has(name) || (await isLoadable(name));
  const pools: string[] = [];
  for (const name of ["xfs", "btrfs"]) if (await has(name)) pools.push(name);
  const absent: string[] = [];
  for (const name of ["ext4", "overlay"]) if (!(await has(name))) absent.push(name);
  if (pools.length === 0) absent.push("xfs");
  const found = ["ext4", "overlay", ...pools].filter((name) => !absent.includes(name)).join(", ");
  if (absent.length === 0) return ok("file systems", found);
  return missing("file systems", found || "none", `Use a kernel with ${absent.join(" and ")}`);
}

async function isModuleLoadable(name: string): Promise<boolean> {
  return runTool("modprobe", ["--dry-run", "--quiet", name]).then(
    () => true,
    () => false,
  );
}

async function checkFuse(): Promise<Check> {
  return stat("/dev/fuse").then(
    () => ok("FUSE", "/dev/fuse"),
    () => warning("FUSE", "no /dev/fuse", "Programs in sandboxes see the host's memory and processors: modprobe fuse"),
  );
}

async function checkUserNamespaces(): Promise<Check> {
  const text = await readFile("/proc/sys/user/max_user_namespaces", "utf8").catch(() => "0");
  const limit = Number(text);
  if (limit > 0) return ok("user namespaces", `up to ${limit}`);
  return missing("user namespaces", "off", "Turn them on: sysctl user.max_user_namespaces=15000");
}

/** Names the layout: what limits can do, and where one looks when they do not hold, depends on it. */
export function judgeCgroups(cgroups: Cgroups): Check {
  const absent = ["memory", "cpu", "pids"].filter((name) => hierarchyOf(cgroups, name) === null);
  const found = { v2: "version 2", v1: "version 1", hybrid: "hybrid of versions 1 and 2", none: "none" }[
    cgroups.layout
  ];
  if (cgroups.layout === "none") {
    return missing("cgroups", found, "Mount them: mount -t cgroup2 none /sys/fs/cgroup");
  }
  if (absent.length > 0) {
    const remedy = `Sandboxes have no limit on ${absent.join(", ")}: boot with these controllers (cgroup_enable=${absent[0]})`;
    return warning("cgroups", found, remedy);
  }
  const disks = diskHierarchy(cgroups) === null ? "" : "; disks can be limited";
  return ok("cgroups", `${found}, with memory, cpu and pids${disks}`);
}

async function checkProcessors(): Promise<Check> {
  if (!(await haltsWhenIdle())) return ok("idle processors", "left to the kernel");
  await using request = await keepProcessorsAwake();
  if (request !== null) return ok("idle processors", "halt (haltpoll); kept awake during bursts of synced writes");
  const remedy = "Synced writes to volumes take twice as long: make /dev/cpu_dma_latency writable for root";
  return warning("idle processors", "halt (haltpoll)", remedy);
}

/** Tries what a snapshot of a fragmented volume in use needs, on a device that nobody writes blocks to. */
async function checkTracing(): Promise<Check> {
  try {
    await using tracing = await BlockTracing.open(`caisson-doctor-${process.pid}`);
    using _trace = BlockTrace.start(await tracing.order("/dev/null"));
    return judgeTracing(null);
  } catch (error) {
    return judgeTracing(error instanceof Error ? error.message : String(error));
  }
}

export function judgeTracing(failure: string | null): Check {
  if (failure === null) return ok("tracing of writes", "works");
  return warning(
    "tracing of writes",
    failure,
    "Snapshots of fragmented volumes are refused while a sandbox writes to them: use a kernel with tracefs and block events (CONFIG_BLK_DEV_IO_TRACE), not locked down",
  );
}

/** Whether what volumes may take of a full pool can be limited while they are mounted. */
export async function checkSpaceLimits(path: string): Promise<Check> {
  return access(path, constants.W_OK).then(
    () => ok("limits in a full pool", `${path} can be written`),
    () =>
      warning(
        "limits in a full pool",
        `${path} cannot be written`,
        "In a full pool, writes that programs have not synced are lost at the end of their sandbox: mount /sys writable",
      ),
  );
}

async function checkFile(name: string, path: string, remedy: string): Promise<Check> {
  return stat(path).then(
    () => ok(name, path),
    () => missing(name, `no ${path}`, remedy),
  );
}

/** Asks the kernel for something through a program in a network namespace of its own, so that it changes nothing here. */
async function checkProgram(name: string, program: string, args: readonly string[], remedy: string): Promise<Check> {
  if (!(await isOnPath(program)))
    return missing(name, `cannot be tried without ${program}`, `Install ${program} (see tools)`);
  return runTool("unshare", ["--net", "--", program, ...args]).then(
    () => ok(name, "work"),
    (error: unknown) => missing(name, error instanceof Error ? error.message : String(error), remedy),
  );
}
