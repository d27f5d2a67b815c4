import { defaultCacheDirectory } from "../base-image/index.ts";
import type { NetworkConfig, PoolConfig, SandboxLimitsConfig } from "../config.ts";
import type { SnapshotStoreConfig } from "../snapshot-store/snapshot-store-config.ts";
import { checkBackups } from "./backup-check.ts";
import type { Check } from "./check.ts";
import { checkDatabase } from "./database-check.ts";
import { checkDisk, checkPools, checkPrivileges, checkTools, judgeCacheDisk, judgeDataDisk } from "./host-checks.ts";
import { checkKernel } from "./kernel-checks.ts";
import { checkInstallationKey } from "./key-check.ts";
import { checkHostLimits } from "./limit-checks.ts";
import { checkMembership } from "./membership-check.ts";
import { checkReplicated } from "./replicated-check.ts";
import {
  checkFirewall,
  checkImageSources,
  checkNameServers,
  checkOciRuntime,
  checkWarmStart,
} from "./sandbox-checks.ts";
import { checkSpeed } from "./speed-check.ts";

export type { Check } from "./check.ts";

/** Looks at everything that Caisson needs of the host. Leaves nothing changed; a check that cannot be made is `missing` and says why. */
export async function runDoctor(options: {
  readonly dataDirectory: string;
  readonly cacheDirectory?: string;
  readonly sandboxes: SandboxLimitsConfig;
  readonly network: NetworkConfig;
  readonly databaseUrl: string | null;
  readonly pool: Pick<PoolConfig, "replicated">;
  readonly snapshotStore: SnapshotStoreConfig | null;
}): Promise<readonly Check[]> {
  const cacheDirectory = options.cacheDirectory ?? defaultCacheDirectory();
  const groups: readonly (() => Promise<Check | readonly Check[]>)[] = [
    checkPrivileges,
    checkKernel,
    // One after the other: they use the same ids.
    async () => [await checkOciRuntime(), ...(options.sandboxes.warmCount > 0 ? [await checkWarmStart()] : [])],
    checkTools,
    () => checkHostLimits(options.sandboxes, options.network),
    () => checkDisk(options.dataDirectory, judgeDataDisk),
    () => checkDisk(cacheDirectory, judgeCacheDisk),
    () => checkPools(options.dataDirectory),
    async () => (options.pool.replicated === null ? [] : checkReplicated(options.pool.replicated)),
    () => checkDatabase(options.databaseUrl),
    () => checkMembership(options.dataDirectory),
    async () => (options.snapshotStore === null ? [] : checkBackups(options.snapshotStore)),
    async () => (options.snapshotStore === null ? [] : checkInstallationKey(options.snapshotStore)),
    checkNameServers,
    checkFirewall,
    checkImageSources,
  ];
  const checks = (await Promise.all(groups.map((run) => run()))).flat();
  // Alone, so that nothing else is measured.
  return [...checks, await checkSpeed(options.dataDirectory)];
}
