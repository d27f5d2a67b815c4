import { readFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";

/** What the kernel shows of a mounted ext4 file system, and lets be changed while it is mounted; see the kernel's `Documentation/admin-guide/ext4.rst`. */
export type Ext4Attribute = "reserved_clusters" | "delayed_allocation_blocks" | "errors_count";

/** As `readExt4Attribute`, at this instant: the kernel answers from memory. */
export function readExt4AttributeNow(device: string, name: Ext4Attribute): number | null {
  try {
    return Number(readFileSync(pathOf(device, name), "utf8").trim());
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENODEV")) return null;
    throw error;
  }
}

/** Reads a number. `device` is what is mounted, for example `/dev/loop3`. Null: nothing of ext4 is mounted from it. */
export async function readExt4Attribute(device: string, name: Ext4Attribute): Promise<number | null> {
  try {
    return Number((await readFile(pathOf(device, name), "utf8")).trim());
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENODEV")) return null;
    throw error;
  }
}

/**
 * Sets how many clusters (blocks of 4 KiB) of the file system ordinary writers cannot have: what they may still write is what is free beyond
 * them, and more is `ENOSPC` at the write. It lasts until the unmount. Root cannot have them either; the file system's own metadata can.
 */
export async function setReservedClusters(device: string, clusters: number): Promise<void> {
  await writeFile(pathOf(device, "reserved_clusters"), String(clusters));
}

/** Bytes in the host's page cache that wait to be written, to whatever disk. */
export async function readDirtyBytes(): Promise<number> {
  const text = await readFile("/proc/meminfo", "utf8");
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text)?.[1] ?? 0);
  return (kib("Dirty") + kib("Writeback")) * 1024;
}

function pathOf(device: string, name: Ext4Attribute): string {
  return `/sys/fs/ext4/${device.slice("/dev/".length)}/${name}`;
}
