import { openObjectStore } from "@caisson/objects";
import { SnapshotStore } from "@caisson/snapshot-store";
import { ensureInstallationKey } from "./installation-key.ts";
import type { SnapshotStoreConfig } from "./snapshot-store-config.ts";

/** Opens the snapshot store of the settings, without asking it anything: one that is away keeps no server from starting. */
export async function openSnapshotStore(config: SnapshotStoreConfig, dataDirectory: string): Promise<SnapshotStore> {
  const installationKey = await ensureInstallationKey(dataDirectory);
  const objects = await openObjectStore(config);
  const { bytesPerSecond, graceMs } = config;
  return new SnapshotStore({ objects, installationKey, bytesPerSecond, graceMs });
}
