import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import type { SnapshotStoreRows } from "@caisson/database";
import { type ObjectStore, openObjectStore } from "@caisson/objects";
import { SnapshotStore } from "@caisson/snapshot-store";
import { readInstallationKeys } from "./installation-key.ts";
import type { SnapshotStoreConfig } from "./snapshot-store-config.ts";

/** Opens the snapshot store of the settings, without asking it anything: one that is away, or whose key is gone, keeps no server from starting. */
export async function openSnapshotStore(
  config: SnapshotStoreConfig,
  dataDirectory: string,
  memory: SnapshotStoreRows,
): Promise<SnapshotStore> {
  const objects = await openObjectStore(config);
  const { bytesPerSecond, graceMs } = config;
  const installationKeys = () => readInstallationKeys(dataDirectory, memory);
  return new SnapshotStore({
    ...{ objects, installationKeys, memory, bytesPerSecond, graceMs },
    place: await placeOf(dataDirectory),
  });
}

/** The objects of a store, to be looked at without what an installation knows of it. */
export function openStoredObjects(config: SnapshotStoreConfig): Promise<ObjectStore> {
  return openObjectStore(config);
}

/** This directory, in this run of the machine: the server locks it, so that no other one runs there. A copy of it, also on the same machine, is another place. */
export async function placeOf(dataDirectory: string): Promise<string> {
  const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8");
  const { dev, ino } = await stat(dataDirectory, { bigint: true });
  return createHash("sha256").update(`${boot.trim()}\n${dev}\n${ino}`).digest("hex").slice(0, 32);
}
