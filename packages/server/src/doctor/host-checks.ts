import { access, constants, glob, readFile, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { hasErrorCode, hasReverseMap, holdsReverseMap } from "@caisson/linux";
import { formatSize } from "@caisson/model";
import { type Check, missing, ok, warning } from "./check.ts";

/** Also read by set-up, which installs what is missing. Its own lines say what stands where. */
const TOOLS_PATH = join(import.meta.dirname, "../../../../scripts/host-tools.txt");

interface Tool {
  readonly command: string;
  readonly packageName: string;
}

/** The programs that the server calls. The OCI runtime is not among them: there are two to choose from (`checkOciRuntime`). */
export async function readTools(): Promise<readonly Tool[]> {
  const lines = (await readFile(TOOLS_PATH, "utf8"))
    .split("\n")
    .map((line) => line.split(";").map((part) => part.trim()));
  return lines.flatMap(([neededBy, command = "", packageName = ""]) =>
    neededBy === "server" && command !== "crun" ? [{ command, packageName }] : [],
  );
}

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

export async function checkTools(): Promise<Check> {
  const tools = await readTools();
  const isThere = await Promise.all(tools.map(({ command }) => isOnPath(command)));
  return judgeTools(
    tools,
    tools.filter((_, index) => isThere[index] !== true),
  );
}

export function judgeTools(tools: readonly Tool[], absent: readonly Tool[]): Check {
  if (absent.length === 0) return ok("tools", tools.map(({ command }) => command).join(", "));
  const packages = [...new Set(absent.map(({ packageName }) => packageName))].join(" ");
  const names = absent.map(({ command }) => command).join(", ");
  return missing("tools", `no ${names}`, `Install them: apt-get install ${packages}`);
}

/** Whether a program of this name can be called. */
export async function isOnPath(command: string): Promise<boolean> {
  const directories = (process.env.PATH ?? "").split(":");
  const found = await Promise.all(
    directories.map((directory) =>
      access(join(directory, command), constants.X_OK).then(
        () => true,
        () => false,
      ),
    ),
  );
  return found.includes(true);
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

/** Looks at the disk of a directory that need not exist yet. */
export async function checkDisk(
  directory: string,
  judge: (directory: string, freeBytes: number) => Check,
): Promise<Check> {
  const { bavail, bsize } = await statfsOfNearest(directory);
  return judge(directory, bavail * bsize);
}

export function judgeDataDisk(directory: string, freeBytes: number): Check {
  const check = judgeSpace("disk", directory, freeBytes);
  if (check.status !== "ok" || freeBytes >= SPACE_GOOD_BYTES) return check;
  return warning(check.name, check.found, "Volumes and sandboxes will soon fill the disk");
}

/** There are few images, so the space to make one is enough. */
export function judgeCacheDisk(directory: string, freeBytes: number): Check {
  return judgeSpace("image cache", directory, freeBytes);
}

function judgeSpace(name: string, directory: string, freeBytes: number): Check {
  const found = `${formatSize(freeBytes)} free for ${directory}`;
  if (freeBytes >= SPACE_MIN_BYTES) return ok(name, found);
  return missing(name, found, `Free at least ${formatSize(SPACE_MIN_BYTES)}, or choose another directory`);
}

function statfsOfNearest(directory: string): Promise<{ readonly bavail: number; readonly bsize: number }> {
  return ofNearest(directory, (path) => statfs(path));
}

/** What `read` finds out about the directory or, where that is not there yet, the nearest one above it. */
async function ofNearest<T>(directory: string, read: (path: string) => Promise<T>): Promise<T> {
  try {
    return await read(directory);
  } catch (error) {
    const isHidden = hasErrorCode(error, "ENOENT") || hasErrorCode(error, "EACCES");
    if (!isHidden || dirname(directory) === directory) throw error;
    return ofNearest(dirname(directory), read);
  }
}

/** Looks at the file systems that hold the pools: the data directory's own, and those in pool files, which older versions may have made. */
export async function checkPools(dataDirectory: string): Promise<Check> {
  const slow: string[] = [];
  if ((await ofNearest(dataDirectory, hasReverseMap)) === true) slow.push(dataDirectory);
  for await (const path of glob(join(dataDirectory, "regions/*/pool/pool.xfs")))
    if ((await holdsReverseMap(path)) === true) slow.push(path);
  return judgePools(slow);
}

export function judgePools(slow: readonly string[]): Check {
  if (slow.length === 0) return ok("reverse maps", "none");
  return warning(
    "reverse maps",
    `XFS with rmapbt: ${slow.join(", ")}`,
    "Snapshots and clones of volumes that a database has fragmented take three times as long. Use a file system made with mkfs.xfs -m rmapbt=0 for new data",
  );
}
