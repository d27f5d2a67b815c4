import { settleAll } from "@caisson/linux";
import type { MountSpec, RootSpec } from "@caisson/runtime";
import type { SandboxPlan } from "./sandbox-plan.ts";
import type { VolumeMountOptions } from "./volume-mounts.ts";

/** Mounts what the sandbox needs, side by side, and puts giving all of it back, side by side too, on the stack. */
export async function mountForSandbox(
  plan: SandboxPlan,
  undo: AsyncDisposableStack,
): Promise<{ root: RootSpec; mounts: readonly MountSpec[] }> {
  const { region } = plan;
  const releases: (() => Promise<void>)[] = [];
  undo.defer(() => settleAll(releases.map((release) => release())).then(() => {}));
  const mountVolume = async (volumeId: string, options: VolumeMountOptions): Promise<string> => {
    const path = await region.volumes.mount(volumeId, options);
    releases.push(() => region.volumes.unmount(volumeId));
    return path;
  };
  const acquireRoot = async (imageId: string): Promise<string> => {
    const path = await region.roots.acquire(imageId);
    releases.push(async () => region.roots.release(imageId));
    return path;
  };
  const takeScratch = async (): Promise<string> => {
    const scratch = await region.scratch.take();
    releases.push(async () => scratch[Symbol.asyncDispose]());
    return scratch.path;
  };
  const mountRoot = async (): Promise<RootSpec> => {
    if (plan.root.kind === "volume") {
      return { kind: "persistent", path: await mountVolume(plan.root.volumeId, { isReadOnly: false, isRoot: true }) };
    }
    const [lowerPath, scratchPath] = await settleAll([acquireRoot(plan.root.imageId), takeScratch()]);
    return { kind: "ephemeral", lowerPath, scratchPath };
  };
  const mountData = async ({ volumeId, path, isReadOnly }: SandboxPlan["mounts"][number]): Promise<MountSpec> => {
    return { sourcePath: await mountVolume(volumeId, { isReadOnly, isRoot: false }), targetPath: path, isReadOnly };
  };
  // Both are let settle before a failure of one of them is reported.
  const [root, mounts] = await Promise.allSettled([mountRoot(), settleAll(plan.mounts.map(mountData))]);
  if (root.status === "rejected") throw root.reason;
  if (mounts.status === "rejected") throw mounts.reason;
  return { root: root.value, mounts: mounts.value };
}
