import type { CgroupSetting } from "@caisson/linux";
import type { MountSpec, RootSpec, SandboxLimits } from "../../runtime.ts";
import type { OwnFile } from "../root/own-files.ts";

/** Everything that a waiting container becomes a sandbox with. Descriptors are those of this process. */
export interface Adoption {
  readonly mountNamespace: number;
  readonly utsNamespace: number;
  /** Its ids translate the owners of files. */
  readonly userNamespace: number;
  /** A copy of the mount of the agent's directory that is attached nowhere on the host. */
  readonly agentRun: number;
  /** The id on the host of the container's root. */
  readonly ownerId: number;
  /** Its limits, and that it waits no more. */
  readonly cgroup: readonly CgroupSetting[];
  /** All processes of the container, by their ids on the host. */
  readonly processIds: readonly number[];
  readonly limits: SandboxLimits;
  readonly hostname: string;
  readonly root: RootSpec;
  readonly ownFiles: readonly OwnFile[];
  /** A file that nobody inside may change; null: the root's own certificates are enough. */
  readonly certificates: { readonly path: string; readonly content: string } | null;
  /** In mount order. No link is on the way to a target. */
  readonly mounts: readonly MountSpec[];
  /** A directory on which the lower layer is mounted for a moment, where the kernel cannot stack what is attached nowhere; null: it can. */
  readonly lowerPath: string | null;
}

/** What the thread answers: null, or why the container must be discarded. */
export interface AdoptionAnswer {
  readonly key: number;
  readonly error: string | null;
}
