import { access, constants } from "node:fs/promises";
import { dirname } from "node:path";
import { hasErrorCode } from "@caisson/linux";
import { CaissonError, formatSize } from "@caisson/model";
import { type DiskSpeed, measureDiskSpeed, type Speed } from "@caisson/storage";
import { type Check, ok, warning } from "./check.ts";

const NAME = "disk speed";
/** Fewer, and a database that syncs each transaction waits for the disk itself. */
const SYNCS_GOOD = 500;
/** Of the disk's own synced writes, in a volume. */
const SHARE_GOOD = 0.6;

/** Measures the disk of the data directory, or of the nearest one above it, for up to three seconds. Nothing of it stays. */
export async function checkSpeed(dataDirectory: string): Promise<Check> {
  try {
    return judgeSpeed(await measureDiskSpeed(await nearest(dataDirectory)));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const isFull = error instanceof CaissonError && error.code === "STORAGE_FULL";
    const remedy = isFull ? "Free space on that disk" : "Mend what the other lines say, then run caisson doctor again";
    return warning(NAME, `not measured: ${reason}`, remedy);
  }
}

export function judgeSpeed({ disk, volume, hasPoolFile }: DiskSpeed): Check {
  const share = volume.syncsPerSecond / disk.syncsPerSecond;
  const layers = hasPoolFile
    ? "two loop devices, the volume's and the pool file's (on XFS there is no pool file)"
    : "one loop device";
  const found = `${describe(disk)}; in a volume ${describe(volume)}: ${Math.round(100 * share)} % of the synced writes, through ${layers}`;
  if (disk.syncsPerSecond < SYNCS_GOOD) {
    const remedy = `The disk itself syncs less than ${SYNCS_GOOD} times a second: databases will wait for it. Choose one that keeps what it has accepted without power`;
    return warning(NAME, found, remedy);
  }
  if (!hasPoolFile || share >= SHARE_GOOD) return ok(NAME, found);
  return warning(
    NAME,
    found,
    "A data directory on XFS needs no pool file, which is one loop device less: give it a disk or partition of its own " +
      "(mkfs.xfs -m reflink=1,rmapbt=0) when databases in volumes should sync faster (docs/adr/0006-fewer-layers.md)",
  );
}

function describe({ syncsPerSecond, writtenBytesPerSecond, readBytesPerSecond }: Speed): string {
  const [written, read] = [writtenBytesPerSecond, readBytesPerSecond].map((rate) => formatSize(Math.round(rate)));
  return `${Math.round(syncsPerSecond)} synced writes, ${written} written and ${read} read a second`;
}

async function nearest(directory: string): Promise<string> {
  try {
    await access(directory, constants.W_OK);
    return directory;
  } catch (error) {
    if (!hasErrorCode(error, "ENOENT", "ENOTDIR") || dirname(directory) === directory) throw error;
    return nearest(dirname(directory));
  }
}
