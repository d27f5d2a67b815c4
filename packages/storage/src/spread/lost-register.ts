import { CaissonError } from "@caisson/model";
import type { LocalStorage } from "../local/local-storage.ts";
import { type DiskMark, readMark } from "./disk-register.ts";

/** What is there of a pool whose register of disks is missing. */
export interface Remains {
  /** Of the first disk. */
  readonly directory: string;
  readonly first: LocalStorage;
  /** Whether links name further disks of images. */
  readonly hasPlaces: boolean;
  /** The further disks that the settings name. */
  readonly disks: readonly string[];
}

/**
 * The id of the pool whose register is missing, as the marks of its further disks tell it. Null: the pool is new, or has never had further disks. A pool that is
 * new takes no id over, since a disk that is marked then is another pool's. Throws when it cannot be known.
 */
export async function findLostPool({ directory, first, hasPlaces, disks }: Remains): Promise<string | null> {
  if (!hasPlaces && (await isEmpty(first))) return null;
  const marked = new Map<string, string[]>();
  for (const disk of disks) {
    const pool = (await findMark(disk))?.pool;
    if (pool !== undefined) marked.set(pool, [...(marked.get(pool) ?? []), disk]);
  }
  const [pool, ...others] = marked.keys();
  if (pool !== undefined && others.length === 0) return pool;
  if (pool === undefined && !hasPlaces) return null;
  const missing = `Cannot open the pool ${directory}: its register ${directory}/disks.json is missing`;
  const reason =
    pool === undefined
      ? "its images on further disks are not to be found. Mount those disks and name them in the settings"
      : `the disks that the settings name belong to several pools (${[...marked.values()].map((own) => own.join(", ")).join("; ")}). Name only those of this pool`;
  throw new CaissonError(
    "INVALID_CONFIG",
    `${missing}, and ${reason}, or restore the file from a backup; then start the server again`,
  );
}

async function isEmpty(first: LocalStorage): Promise<boolean> {
  for await (const _image of first.listImages()) return false;
  return true;
}

/** One that cannot be read tells nothing here; why is told when the disk is opened. */
async function findMark(directory: string): Promise<DiskMark | null> {
  return readMark(directory).catch(() => null);
}
