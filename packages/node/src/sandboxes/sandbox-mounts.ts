import { settleAll } from "@caisson/linux";
import type { MountSpec, RootSpec } from "@caisson/runtime";
import type { VolumeMountOptions } from "../mounts/volume-mounts.ts";
import type { SandboxMount, SandboxSpec } from "../node.ts";
import type { Pool } from "../pools/pool.ts";

/** What one sandbox has mounted: made side by side, and given back side by side. */
export class SandboxMounts {
  readonly #spec: SandboxSpec;
  readonly #pool: Pool;
  readonly #releases = new Set<() => Promise<void>>();
  /** What went wrong with volumes, known when they are given back: sentences for people. */
  readonly damages: string[] = [];

  constructor(spec: SandboxSpec, pool: Pool) {
    this.#spec = spec;
    this.#pool = pool;
  }

  /** Resolves, or fails, when nothing is under way any more. Needs a `release` in either case. */
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

  /** Gives back each part that was not given back yet, so it can be repeated after a failure. */
  async release(): Promise<void> {
    await settleAll(
      [...this.#releases].map(async (release) => {
        await release();
        this.#releases.delete(release);
      }),
    );
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
    this.#releases.add(async () => disk[Symbol.asyncDispose]());
    return disk.path;
  }
}
