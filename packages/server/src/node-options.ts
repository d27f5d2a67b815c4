import type { NodeOptions } from "@caisson/node";
import { MEMORY_LIMITS_MB } from "@caisson/protocol";
import { PLACES_DEFAULT } from "@caisson/runtime";
import { DEFAULT_BASE_IMAGE } from "./app/region.ts";
import type { BaseImageFile } from "./base-image/index.ts";
import type { Config } from "./config.ts";

/** What the settings say of the host. */
export function nodeOptions(
  config: Config,
  directory: string,
  baseImageFile: BaseImageFile,
): Omit<NodeOptions, "logger" | "takeEvent"> {
  const { diskLimits, startTimeoutMs, stopGraceMs, warmCount, scratchBytes, preparedScratchDisks } = config.sandboxes;
  return {
    directory,
    regions: config.regions,
    labels: config.node.labels,
    baseImage: { name: DEFAULT_BASE_IMAGE, ...baseImageFile },
    pool: config.pool,
    isAwakeForSyncs: config.volumes.isAwakeForSyncs,
    scratch: { sizeBytes: scratchBytes, preparedCount: preparedScratchDisks },
    runtime: {
      network: { ...config.network, placeCount: Math.max(config.sandboxes.max, PLACES_DEFAULT) },
      startTimeoutMs,
      stopGraceMs,
      warm: { count: warmCount, memoryBytes: MEMORY_LIMITS_MB.default * 2 ** 20 },
      ...(diskLimits === null ? {} : { diskLimits }),
    },
  };
}
