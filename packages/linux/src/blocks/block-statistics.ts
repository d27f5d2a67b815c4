import { readFile } from "node:fs/promises";

const NAME_FIELD = 2;
const FLUSHES_FIELD = 18;

/** How many flushes each block device has carried out since it exists, by its path. (Documentation/admin-guide/iostats.rst of Linux.) */
export async function readFlushCounts(): Promise<ReadonlyMap<string, number>> {
  const lines = (await readFile("/proc/diskstats", "utf8")).trimEnd().split("\n");
  return new Map(
    lines.map((line) => {
      const fields = line.trim().split(/\s+/);
      return [`/dev/${fields[NAME_FIELD]}`, Number(fields[FLUSHES_FIELD])] as const;
    }),
  );
}
