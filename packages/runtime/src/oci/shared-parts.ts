import type { Cgroups, DiskLimits, ReadyQueue } from "@caisson/linux";
import type { EgressGuard } from "../egress/egress-guard.ts";
import type { AgentBundle } from "./agent/agent-bundle.ts";
import type { OciProgram } from "./find-oci-runtime.ts";
import type { HostShares } from "./limits/host-shares.ts";
import type { PreparedEnvironment } from "./prepared-environment.ts";
import type { SeccompProfile } from "./seccomp/seccomp.ts";
import type { Lxcfs } from "./view/lxcfs.ts";
import type { ProcessorShares } from "./view/processor-shares.ts";

/** What the sandboxes of one runtime share. */
export interface SharedParts {
  readonly program: OciProgram;
  readonly stateDirectory: string;
  /** Everything of the runtime lies below it. */
  readonly runDirectory: string;
  readonly sandboxesDirectory: string;
  readonly cgroups: Cgroups;
  readonly agent: AgentBundle;
  readonly seccomp: SeccompProfile;
  /** The text of `/etc/resolv.conf`. */
  readonly resolvConf: string;
  readonly egress: EgressGuard;
  readonly lxcfs: Lxcfs;
  readonly processorShares: ProcessorShares;
  /** Of the host's process ids and pseudo-terminals. */
  readonly processes: HostShares;
  readonly terminals: HostShares;
  readonly environments: ReadyQueue<PreparedEnvironment>;
  /** Of each sandbox, for each of its disks; null: none. */
  readonly diskLimits: Omit<DiskLimits, "devices"> | null;
  /** Sandboxes that there is room for. */
  readonly placeCount: number;
  readonly startTimeoutMs: number;
  /** How long the kernel may take to end the processes of a sandbox. */
  readonly killTimeoutMs: number;
  readonly stopGraceMs: number;
  /** Resolves when a sandbox that has stopped has given its place back; to false, at once, when there is none. Rejects when the signal aborts. */
  readonly untilPlaceIsFree: (signal: AbortSignal) => Promise<boolean>;
  /** Tells the server's log of what has failed beside the sandboxes. */
  readonly warn: (error: unknown, message: string) => void;
}

/** What of it a container needs that runs an agent. */
export interface ContainerParts
  extends Pick<
    SharedParts,
    | "agent"
    | "cgroups"
    | "environments"
    | "killTimeoutMs"
    | "program"
    | "runDirectory"
    | "sandboxesDirectory"
    | "seccomp"
    | "startTimeoutMs"
    | "stateDirectory"
  > {
  readonly lxcfs: Pick<Lxcfs, "files">;
  readonly terminals: Pick<HostShares, "guaranteed">;
}
