import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, readlink, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { hasErrorCode, openFile, renameFile, step, syncDirectory, syncFile, unlinkFile } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { ImageId } from "../driver.ts";

const REGISTER = "disks.json";
const PLACED = "placed";
const MARK = "disk.json";

export interface KnownDisk {
  readonly id: string;
  /** Where it was last. */
  readonly directory: string;
}

/** What lies on a further disk, so that it is known again, wherever it is mounted. */
export interface DiskMark {
  readonly id: string;
  /** The pool that it is part of. */
  readonly pool: string;
}

/**
 * Which further disks a pool has, and which images lie on them. It is kept with the pool's first disk, so that what lies on a disk that is missing is
 * known all the same:
 *
 * - `disks.json`     the pool's own id, and each further disk with the directory where it was last
 * - `placed/<id>`    a link that names the disk of an image. It is there before the image is, and goes after it; images of the first disk have none
 *
 * A further disk carries a mark, `disk.json`, with its id and the pool's. A directory without it is not that disk, but where it should be mounted.
 */
export class DiskRegister {
  readonly poolId: string;
  readonly #directory: string;
  #disks: Map<string, KnownDisk>;
  readonly #placed: Map<ImageId, string>;
  /** Images whose link a call has changed that failed, so that it is perhaps not on stable storage, or not there. */
  readonly #unsettled = new Set<ImageId>();

  private constructor(
    directory: string,
    contents: { readonly pool: string; readonly disks: readonly KnownDisk[] },
    placed: Map<ImageId, string>,
  ) {
    this.poolId = contents.pool;
    this.#directory = directory;
    this.#disks = new Map(contents.disks.map((disk) => [disk.id, disk]));
    this.#placed = placed;
  }

  /** `directory`: of the pool's first disk, which one process at a time has open. */
  static async open(directory: string): Promise<DiskRegister> {
    await mkdir(join(directory, PLACED), { recursive: true, mode: 0o700 });
    const placed = new Map<ImageId, string>();
    for (const id of await readdir(join(directory, PLACED)))
      placed.set(id, await readlink(join(directory, PLACED, id)));
    // A run that was killed may have left links that it did not sync.
    await syncDirectory(join(directory, PLACED));
    const contents = await readRegister(join(directory, REGISTER));
    const register = new DiskRegister(directory, contents ?? { pool: newId(), disks: [] }, placed);
    if (contents === null) await register.#save(register.#disks);
    return register;
  }

  get disks(): readonly KnownDisk[] {
    return [...this.#disks.values()];
  }

  /** Enters a disk, or where it is now. */
  async enter(disk: KnownDisk): Promise<void> {
    if (this.#disks.get(disk.id)?.directory === disk.directory) return;
    await this.#save(new Map(this.#disks).set(disk.id, disk));
  }

  /** Forgets a disk that holds nothing. */
  async forget(diskId: string): Promise<void> {
    const left = new Map(this.#disks);
    if (left.delete(diskId)) await this.#save(left);
  }

  /** The further disk of an image; null: the first disk, or there is no such image. */
  diskOf(id: ImageId): string | null {
    return this.#placed.get(id) ?? null;
  }

  imagesOn(diskId: string): readonly ImageId[] {
    return [...this.#placed].filter(([, on]) => on === diskId).map(([id]) => id);
  }

  /** Says for good that the image lies on the disk, or is about to. */
  async place(id: ImageId, diskId: string): Promise<void> {
    if (this.#placed.get(id) === diskId && !this.#unsettled.has(id)) return;
    await this.#change("storage.place", id, async (path) => {
      await symlink(diskId, path);
      this.#placed.set(id, diskId);
    });
  }

  /** The image is gone. Unknown is success. */
  async displace(id: ImageId): Promise<void> {
    if (!this.#placed.has(id)) return;
    await this.#change("storage.displace", id, async () => undefined);
    this.#placed.delete(id);
  }

  /** Removes the link of an image, makes the new one where there is to be one, and puts that on stable storage. */
  async #change(tag: string, id: ImageId, make: (path: string) => Promise<void>): Promise<void> {
    const path = join(this.#directory, PLACED, id);
    await step(tag, async () => {
      this.#unsettled.add(id);
      await rm(path, { force: true });
      await make(path);
      await syncDirectory(dirname(path));
      this.#unsettled.delete(id);
    });
  }

  /** What is known changes only when it is on stable storage, so that a call that failed does all of it again. */
  async #save(disks: Map<string, KnownDisk>): Promise<void> {
    await writeDurably(join(this.#directory, REGISTER), { pool: this.poolId, disks: [...disks.values()] });
    this.#disks = disks;
  }
}

/** The mark of the disk at the directory; null: it has none. */
export async function readMark(directory: string): Promise<DiskMark | null> {
  const path = join(directory, MARK);
  const value = await readJson(path);
  if (value === null) return null;
  const { id, pool } = value as Partial<Record<string, unknown>>;
  if (typeof id === "string" && typeof pool === "string") return { id, pool };
  throw damaged(path);
}

/** Marks a disk that is new to the pool. */
export async function markDisk(directory: string, pool: string): Promise<DiskMark> {
  const mark = { id: newId(), pool };
  await step("storage.disk.mark", () => writeDurably(join(directory, MARK), mark));
  return mark;
}

export function markPath(directory: string): string {
  return join(directory, MARK);
}

async function readRegister(
  path: string,
): Promise<{ readonly pool: string; readonly disks: readonly KnownDisk[] } | null> {
  const value = await readJson(path);
  if (value === null) return null;
  const { pool, disks } = value as Partial<Record<string, unknown>>;
  const areDisks =
    Array.isArray(disks) &&
    disks.every((disk: Partial<KnownDisk>) => typeof disk.id === "string" && typeof disk.directory === "string");
  if (typeof pool === "string" && areDisks) return { pool, disks: disks as KnownDisk[] };
  throw damaged(path);
}

async function readJson(path: string): Promise<object | null> {
  try {
    const value: unknown = JSON.parse(await readFile(path, "utf8"));
    if (typeof value === "object" && value !== null) return value;
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return null;
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw damaged(path);
}

function damaged(path: string): CaissonError {
  return new CaissonError("INTERNAL_ERROR", `Cannot read ${path}: it is damaged. Restore it from a backup`);
}

/** Whole or not at all, whenever the power fails. */
async function writeDurably(path: string, value: object): Promise<void> {
  const unfinished = `${path}.new`;
  await rm(unfinished, { force: true });
  try {
    await using file = await openFile(unfinished, "wx", 0o600);
    await file.writeFile(`${JSON.stringify(value, null, 2)}\n`);
    await syncFile(file, unfinished);
    await renameFile(unfinished, path);
  } catch (error) {
    await unlinkFile(unfinished).catch(() => undefined);
    throw error;
  }
  await syncDirectory(dirname(path));
}

function newId(): string {
  return randomBytes(8).toString("hex");
}
