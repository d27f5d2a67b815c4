import { readFile, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { hasErrorCode, runTool } from "@caisson/linux";
import { formatSize } from "@caisson/model";
import { type Check, missing, ok, warning } from "./check.ts";

/** A command that shows that a package is there, and the Debian package that has it. */
const TOOLS: readonly (readonly [command: string, packageName: string])[] = [
  ["mkfs.ext4", "e2fsprogs"],
  ["resize2fs", "e2fsprogs"],
  ["e2fsck", "e2fsprogs"],
  ["mkfs.xfs", "xfsprogs"],
  ["mmdebstrap", "mmdebstrap"],
  ["nft", "nftables"],
  ["ip", "iproute2"],
  ["tini-static", "tini"],
  ["unshare", "util-linux"],
  ["nsenter", "util-linux"],
  ["ldd", "libc-bin"],
];

/** Bits of capabilities(7) that the server itself needs. */
const CAPABILITIES: readonly (readonly [name: string, bit: number])[] = [
  ["CHOWN", 0],
  ["DAC_OVERRIDE", 1],
  ["KILL", 5],
  ["SETGID", 6],
  ["SETUID", 7],
  ["NET_ADMIN", 12],
  ["SYS_CHROOT", 18],
  ["SYS_PTRACE", 19],
  ["SYS_ADMIN", 21],
  ["MKNOD", 27],
  ["SETFCAP", 31],
];

const SPACE_MIN_BYTES = 3e9;
const SPACE_GOOD_BYTES = 20e9;
/** A running sandbox holds about eight descriptors, a connection two. */
const DESCRIPTORS_GOOD = 4096;

export async function checkTools(): Promise<readonly Check[]> {
  const absent = [];
  for (const [command, packageName] of TOOLS) {
    const isThere = await runTool("sh", ["-c", 'command -v "$1"', "sh", command]).then(
      () => true,
      () => false,
    );
    if (!isThere) absent.push({ command, packageName });
  }
  if (absent.length === 0) return [ok("tools", TOOLS.map(([command]) => command).join(", "))];
  const packages = [...new Set(absent.map(({ packageName }) => packageName))].join(" ");
  const names = absent.map(({ command }) => command).join(", ");
  return [missing("tools", `no ${names}`, `Install them: apt-get install ${packages}`)];
}

export async function checkPrivileges(): Promise<Check> {
  const status = await readFile("/proc/self/status", "utf8");
  return judgePrivileges(process.getuid?.() ?? -1, /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0");
}

export function judgePrivileges(uid: number, effective: string): Check {
  const held = BigInt(`0x${effective}`);
  const absent = CAPABILITIES.filter(([, bit]) => ((held >> BigInt(bit)) & 1n) === 0n).map(([name]) => `CAP_${name}`);
  if (uid !== 0) return missing("privileges", `user ${uid}`, "Run the server as root, for example with sudo");
  if (absent.length === 0) return ok("privileges", "root with all capabilities that are needed");
  return missing("privileges", `root without ${absent.join(", ")}`, "Give the server these capabilities");
}

export async function checkDescriptors(): Promise<Check> {
  const limits = await readFile("/proc/self/limits", "utf8");
  const hard = Number(/^Max open files\s+\S+\s+(\d+)/m.exec(limits)?.[1] ?? 0);
  if (hard >= DESCRIPTORS_GOOD) return ok("open files", `up to ${hard}`);
  return warning(
    "open files",
    `up to ${hard}`,
    `Raise the limit to ${DESCRIPTORS_GOOD} or more (ulimit -Hn, LimitNOFILE=)`,
  );
}

/** Looks at the disk of the directory, which need not exist yet. */
export async function checkDisk(name: string, directory: string): Promise<Check> {
  const { bavail, bsize } = await statfsOfNearest(directory);
  const freeBytes = bavail * bsize;
  const found = `${formatSize(freeBytes)} free for ${directory}`;
  if (freeBytes < SPACE_MIN_BYTES)
    return missing(name, found, `Free at least ${formatSize(SPACE_MIN_BYTES)}, or choose another directory`);
  if (freeBytes < SPACE_GOOD_BYTES) return warning(name, found, "Volumes and sandboxes will soon fill the disk");
  return ok(name, found);
}

async function statfsOfNearest(directory: string): Promise<{ readonly bavail: number; readonly bsize: number }> {
  try {
    return await statfs(directory);
  } catch (error) {
    const isHidden = hasErrorCode(error, "ENOENT") || hasErrorCode(error, "EACCES");
    if (!isHidden || dirname(directory) === directory) throw error;
    return statfsOfNearest(dirname(directory));
  }
}
