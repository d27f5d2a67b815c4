import { settleAll } from "@caisson/linux";
import type { MountSpec, RootSpec } from "@caisson/runtime";
import type { VolumeMountOptions } from "../mounts/volume-mounts.ts";
import type { SandboxMount, SandboxSpec } from "../node.ts";
import type { Pool } from "../pools/pool.ts";

/** What one sandbox has mounted: made side by side, and given back side by side, its scratch disk apart from what others may wait for. */
export class SandboxMounts {
  readonly #spec: SandboxSpec;
  readonly #pool: Pool;
  readonly #releases = new Set<() => Promise<void>>();
  #scratch: AsyncDisposable | null = null;
  /** What went wrong with volumes, known when they are given back: sentences for people. */
  readonly damages: string[] = [];

  constructor(spec: SandboxSpec, pool: Pool) {
    this.#spec = spec;
    this.#pool = pool;
  }

  /** Resolves, or fails, when nothing is under way any more. Needs `release` and `discardScratch` in either case. */
  async mount(): Promise<{ readonly root: RootSpec; readonly mounts: readonly MountSpec[] }> {
    const [root, mounts] = await settleAll([
      this.#mountRoot(),
      settleAll(this.#spec.mounts.map((mount) => this.#mountData(mount))),
    ]);
    return { root, mounts };
  }

  /** Lets what stands still for want of room go on: it could not be ended otherwise. */
  letEnd(): void {
    const { root, mounts } = this.#spec;
    if (root.kind === "volume") this.#pool.volumes.letEnd(root.volumeId);
    for (const { volumeId, isReadOnly } of mounts) if (!isReadOnly) this.#pool.volumes.letEnd(volumeId);
  }

  /** Gives the space of deleted files back while the sandbox ends, so that the unmount finds little left to do. */
  async trim(): Promise<void> {
    const { root, mounts } = this.#spec;
    const writable = mounts.filter(({ isReadOnly }) => !isReadOnly).map(({ volumeId }) => volumeId);
    const volumeIds = root.kind === "volume" ? [root.volumeId, ...writable] : writable;
    await settleAll(volumeIds.map((volumeId) => this.#pool.volumes.trim(volumeId)));
  }

  /** Gives back each volume and root that was not given back yet, so it can be repeated after a failure. */
  async release(): Promise<void> {
    await settleAll(
      [...this.#releases].map(async (release) => {
        await release();
        this.#releases.delete(release);
      }),
    );
  }

  /** Ends the scratch disk, of which nobody wants anything any more. Again, or without one, is success. */
  async discardScratch(): Promise<void> {
    await this.#scratch?.[Symbol.asyncDispose]();
    this.#scratch = null;
  }

  async #mountRoot(): Promise<RootSpec> {
    const { id, root } = this.#spec;
    const { roots } = this.#pool;
    if (root.kind === "volume") {
      return { kind: "persistent", path: await this.#mountVolume(root.volumeId, { isReadOnly: false, isRoot: true }) };
    }
    const { imageId } = root;
    this.#releases.add(() => roots.release(imageId, id));
    const [lowerPath, scratchPath] = await settleAll([roots.acquire(imageId, id), this.#takeScratch()]);
    return { kind: "ephemeral", lowerPath, scratchPath };
  }

  async #mountData({ volumeId, path, isReadOnly }: SandboxMount): Promise<MountSpec> {
    return {
      sourcePath: await this.#mountVolume(volumeId, { isReadOnly, isRoot: false }),
      targetPath: path,
      isReadOnly,
    };
  }

  #mountVolume(volumeId: string, options: VolumeMountOptions): Promise<string> {
    const { volumes } = this.#pool;
    const { id } = this.#spec;
    // Before it is mounted: a mount that fails may have done a part.
    this.#releases.add(async () => {
      for (const damage of await volumes.unmount(volumeId, id)) this.damages.push(`Volume ${volumeId}: ${damage}`);
    });
    return volumes.mount(volumeId, options, id);
  }

  async #takeScratch(): Promise<string> {
    const disk = await this.#pool.scratch.take();
    this.#scratch = disk;
    return disk.path;
  }
}
