import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hasReflink, TestDisk } from "@caisson/storage/testing";

/** Sparse: more than a pool file of any test, which costs what is written to it. */
const DISK_BYTES = 32 * 2 ** 30;

/** The directory with the data of a server or a node. */
export class DataPlace {
  readonly path: string;
  readonly #disk: TestDisk | null;

  constructor(path: string, disk: TestDisk | null = null) {
    this.path = path;
    this.#disk = disk;
  }

  /** A new one. `hasPoolFile`: the pools in it need a pool file, also where files of the temporary directory can share blocks. */
  static async make(prefix: string, hasPoolFile = false): Promise<DataPlace> {
    const disk = hasPoolFile && (await hasReflink(tmpdir())) ? await TestDisk.create("ext4", DISK_BYTES) : null;
    // Sandboxes pass it on the way to their files.
    if (disk !== null) await chmod(disk.directory, 0o711);
    return new DataPlace(await mkdtemp(join(disk?.mountPath ?? tmpdir(), prefix)), disk);
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
    await this.#disk?.dispose();
  }
}
