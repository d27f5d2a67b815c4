import { join } from "node:path";
import type { PoolDiskConfig } from "../../config.ts";

/** Where a region's part of a further disk is. */
export function poolDirectory(disk: Pick<PoolDiskConfig, "directory">, region: string): string {
  return join(disk.directory, region);
}
