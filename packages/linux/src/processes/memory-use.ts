import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { passFaultPoint } from "../calls/ffi.ts";
import { hasErrorCode } from "../calls/kernel-error.ts";
import { type Cgroups, hierarchyOf } from "./cgroup.ts";

const MIB = 2 ** 20;

/** What a cgroup has its memory for. */
export interface MemoryUse {
  /** All that counts towards its limit. */
  readonly usageBytes: number;
  /** Of these, pages of files: the only ones that the kernel can take back where nothing is swapped. */
  readonly fileBytes: number;
  /** Pages of files that were read again soon after the kernel had taken them back, since the cgroup was made. */
  readonly refaultCount: number;
}

/** The directory of a cgroup whose memory the kernel reports on; null with version 1, which measures nothing of the kind. */
function directoryOf(cgroups: Cgroups, path: string): string | null {
  const hierarchy = hierarchyOf(cgroups, "memory");
  return hierarchy?.version === 2 ? join(hierarchy.mountPath, path) : null;
}

/**
 * Microseconds in which all programs of the cgroup `path` waited for memory at once, since it was made; null where the kernel does not say
 * (version 1 of cgroups, a kernel without PSI or with `psi=0`), and when the cgroup is gone.
 */
export async function readMemoryStallUs(cgroups: Cgroups, path: string): Promise<number | null> {
  const directory = directoryOf(cgroups, path);
  const text = directory === null ? null : await readIfThere(join(directory, "memory.pressure"));
  const total = /^full .*total=(\d+)$/m.exec(text ?? "")?.[1];
  return total === undefined ? null : Number(total);
}

/** Null with version 1 of cgroups, and when the cgroup is gone. */
export async function readMemoryUse(cgroups: Cgroups, path: string): Promise<MemoryUse | null> {
  const directory = directoryOf(cgroups, path);
  if (directory === null) return null;
  const usage = await readIfThere(join(directory, "memory.current"));
  const statistics = await readIfThere(join(directory, "memory.stat"));
  if (usage === null || statistics === null) return null;
  const count = (name: string): number => Number(new RegExp(`^${name} (\\d+)$`, "m").exec(statistics)?.[1] ?? 0);
  return {
    usageBytes: Number(usage),
    fileBytes: count("active_file") + count("inactive_file"),
    refaultCount: count("workingset_refault_file"),
  };
}

/**
 * Has the kernel end a process of the cgroup `path` for want of memory, the one that it would choose itself, and counted as such (`oomKills`): for a
 * moment the limit is below what cannot be taken back. Without effect when the memory has become free meanwhile. Afterwards the limit is
 * `memoryBytes`. Version 2 only.
 */
export async function endProcessForMemory(cgroups: Cgroups, path: string, memoryBytes: number): Promise<void> {
  const directory = directoryOf(cgroups, path);
  const use = await readMemoryUse(cgroups, path);
  if (directory === null || use === null) return;
  await passFaultPoint({ name: "cgroup out of memory", detail: path });
  // Open before anything is changed: for want of a descriptor the low limit would stay.
  await using limit = await open(join(directory, "memory.max"), "r+");
  try {
    await limit.write(String(Math.max(use.usageBytes - use.fileBytes - MIB, MIB)), 0);
  } finally {
    await limit.write(String(memoryBytes), 0);
  }
}

/** A kernel without PSI has no file or one that cannot be read; a cgroup that goes meanwhile has none either. */
async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (["ENOENT", "ENODEV", "ENOTSUP", "EOPNOTSUPP"].some((code) => hasErrorCode(error, code))) return null;
    throw error;
  }
}
