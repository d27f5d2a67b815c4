import { mkdir, mkdtemp, readdir, rename, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LoopDevice, mountFileSystem, openFile, runTool, unmount } from "@caisson/linux";
import { assertNoLeaks, requireIsolation, testTimeoutMs } from "@caisson/linux/testing";
import { LocalStorage, type LocalStorageOptions } from "../src/local/local-storage.ts";
import { crashCommand } from "./crash-command.ts";
import { MIB } from "./device-io.ts";
import type { TestPool } from "./test-pool.ts";

/**
 * A disk of the test's own for a pool to lie on: an image file, formatted and mounted. So the tests can fill it, take its contents at one
 * instant, and know that nothing else writes to it.
 */
export class TestDisk {
  readonly directory: string;
  mountPath: string;
  readonly #type: "ext4" | "btrfs";
  #device: LoopDevice | null = null;

  private constructor(directory: string, type: "ext4" | "btrfs") {
    this.directory = directory;
    this.mountPath = join(directory, "disk");
    this.#type = type;
  }

  static async create(type: "ext4" | "btrfs", sizeBytes: number): Promise<TestDisk> {
    await requireIsolation();
    const disk = new TestDisk(await mkdtemp(join(tmpdir(), "caisson-storage-")), type);
    await mkdir(disk.mountPath);
    await (await openFile(disk.#imagePath, "wx")).close();
    await truncate(disk.#imagePath, sizeBytes);
    await runTool(`mkfs.${type}`, type === "ext4" ? ["-q", "-m", "0", disk.#imagePath] : ["-q", disk.#imagePath]);
    await disk.mount();
    return disk;
  }

  get #imagePath(): string {
    return join(this.directory, "disk.img");
  }

  /** There, or where it was mounted last. */
  async mount(target = this.mountPath): Promise<void> {
    this.mountPath = target;
    await using image = await openFile(this.#imagePath, "r+");
    this.#device = await LoopDevice.attach(image, { isDirect: true });
    await mountFileSystem({ type: this.#type, source: this.#device.path, target });
  }

  async unmount(): Promise<void> {
    // The kernel lets go of a pool file a moment after its device is gone; and a container that another test starts has a copy of all mounts for a moment.
    const timeoutMs = testTimeoutMs(30_000);
    await unmount(this.mountPath, { timeoutMs });
    await this.#device?.detach({ timeoutMs });
    this.#device = null;
  }

  /**
   * What a power cut leaves: the blocks that have reached the image file by now. `whileOff` ends what still uses the disk; whatever that
   * writes is lost.
   */
  async cutPower(whileOff: () => Promise<void>): Promise<void> {
    const copy = `${this.#imagePath}.at-power-cut`;
    await runTool("cp", ["--sparse=always", this.#imagePath, copy]);
    await whileOff();
    await this.unmount();
    await rename(copy, this.#imagePath);
    await this.mount();
  }

  async dispose(): Promise<void> {
    await this.unmount();
    await rm(this.directory, { recursive: true });
    await assertNoLeaks({ directory: this.directory });
  }
}

/** `xfs`: a pool file on a disk without reflink. `btrfs`: a directory on one with it. */
export async function makeLocalTestPool(kind: "xfs" | "btrfs"): Promise<TestPool> {
  const disk = await TestDisk.create(kind === "xfs" ? "ext4" : "btrfs", (kind === "xfs" ? 1600 : 1024) * MIB);
  const options: LocalStorageOptions = {
    directory: join(disk.mountPath, "pool"),
    reserveBytes: 64 * MIB,
    ...(kind === "xfs" ? { poolSizeBytes: 1024 * MIB } : {}),
  };
  const images = [kind === "xfs" ? join(options.directory, "mount") : options.directory];
  return {
    open: () => LocalStorage.open(options),
    findDebris: () => findDebris(images),
    crashCommand: crashCommand({ kind: "local", options, images }),
    cutPower: (driver) => disk.cutPower(() => driver.close()),
    dispose: () => disk.dispose(),
  };
}

/** Half-made and half-removed images. */
export async function findDebris(imagesDirectories: readonly string[]): Promise<readonly string[]> {
  const places = await Promise.all(
    imagesDirectories.flatMap((directory) =>
      ["incoming", "trash"].map(async (place) =>
        (await readdir(join(directory, place))).map((name) => `${place}/${name}`),
      ),
    ),
  );
  return places.flat();
}
