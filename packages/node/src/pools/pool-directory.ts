import { join } from "node:path";

/** Where a region's part of a further disk is. */
export function poolDirectory(diskDirectory: string, region: string): string {
  return join(diskDirectory, region);
}
