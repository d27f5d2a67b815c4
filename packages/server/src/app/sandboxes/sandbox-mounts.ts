import { settleAll } from "@caisson/linux";
import type { MountSpec, RootSpec } from "@caisson/runtime";
import type { VolumeMountOptions } from "../volumes/volume-mounts.ts";
import type { SandboxPlan } from "./sandbox-plan.ts";

/** What one sandbox has mounted: made side by side, and given back side by side. */
export class SandboxMounts {
  readonly #sandboxId: string;
  readonly #plan: SandboxPlan;
  readonly #releases = new Set<() => Promise<void>>();
  /** What went wrong with volumes, known when they are given back: sentences for people. */
  readonly damages: string[] = [];

  constructor(sandboxId: string, plan: SandboxPlan) {
    this.#sandboxId = sandboxId;
    this.#plan = plan;
  }

  /** Resolves, or fails, when nothing is under way any more. Needs a `release` in either case. */
  async mount(): Promise<{ readonly root: RootSpec; readonly mounts: readonly MountSpec[] }> {
    const [root, mounts] = await settleAll([
      this.#mountRoot(),
      settleAll(this.#plan.mounts.map((mount) => this.#mountData(mount))),
    ]);
    return { root, mounts };
  }

  /** Lets what stands still for want of room go on: it could not be ended otherwise. */
  letEnd(): void {
    const { region, holds } = this.#plan;
    for (const { volumeId, isReadOnly } of holds) if (!isReadOnly) region.volumes.letEnd(volumeId);
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
    const { root, region } = this.#plan;
    if (root.kind === "volume") {
      return { kind: "persistent", path: await this.#mountVolume(root.volumeId, { isReadOnly: false, isRoot: true }) };
    }
    const { imageId } = root;
    this.#releases.add(() => region.roots.release(imageId, this.#sandboxId));
    const [lowerPath, scratchPath] = await settleAll([
      region.roots.acquire(imageId, this.#sandboxId),
      this.#takeScratch(),
    ]);
    return { kind: "ephemeral", lowerPath, scratchPath };
  }

  async #mountData({ volumeId, path, isReadOnly }: SandboxPlan["mounts"][number]): Promise<MountSpec> {
    return {
      sourcePath: await this.#mountVolume(volumeId, { isReadOnly, isRoot: false }),
      targetPath: path,
      isReadOnly,
    };
  }

  #mountVolume(volumeId: string, options: VolumeMountOptions): Promise<string> {
    const { volumes } = this.#plan.region;
    // Before it is mounted: a mount that fails may have done a part.
    this.#releases.add(async () => {
      for (const damage of await volumes.unmount(volumeId, this.#sandboxId))
        this.damages.push(`Volume ${volumeId}: ${damage}`);
    });
    return volumes.mount(volumeId, options, this.#sandboxId);
  }

  async #takeScratch(): Promise<string> {
    const disk = await this.#plan.region.scratch.take();
    this.#releases.add(async () => disk[Symbol.asyncDispose]());
    return disk.path;
  }
}
