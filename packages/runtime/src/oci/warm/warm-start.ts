import { rm } from "node:fs/promises";
import { join } from "node:path";
import { settleAll, type UndoStack, weightSettings } from "@caisson/linux";
import type { MountSpec, RootSpec, SandboxLimits, SandboxSpec } from "../../runtime.ts";
import { agentEnvironment, HOME } from "../agent/environment.ts";
import { restrictEgress, sandboxCgroup } from "../limits/limit-sandbox.ts";
import { CERTIFICATES, certificateBundle } from "../root/certificate-bundle.ts";
import { findLinks, requireOwnDirectories, resolveTargets } from "../root/mount-target.ts";
import { OWN_FILE_PATHS, ownFiles } from "../root/own-files.ts";
import type { SharedParts } from "../shared-parts.ts";
import type { Trace } from "../trace.ts";
import type { Adopter } from "./adopter.ts";
import { KEPT_MOUNTS } from "./placeholder.ts";
import type { WaitingParts, WarmContainer } from "./warm-container.ts";
import type { WarmPool } from "./warm-pool.ts";

/** What warm starts need beside what all starts need. */
export interface WarmParts {
  readonly pool: WarmPool<WarmContainer>;
  readonly adopter: Adopter;
  /** A directory for lower layers, where the kernel cannot stack what is attached nowhere; null: it can. */
  readonly lowerPath: string | null;
}

export interface WarmStart {
  readonly spec: SandboxSpec;
  readonly limits: SandboxLimits;
  readonly hostname: string;
  readonly container: WarmContainer;
  /** With the links in their targets followed. */
  readonly mounts: readonly MountSpec[];
}

/** Where the adoption mounts in every root. */
const FIXED_TARGETS = [...OWN_FILE_PATHS, CERTIFICATES, ...KEPT_MOUNTS.map(({ path }) => path)];

/** Where the content of a root is on the host before anything is mounted: the upper layer of an ephemeral one is empty. */
function contentOf(root: RootSpec): string {
  return root.kind === "persistent" ? root.path : root.lowerPath;
}

/**
 * The mounts of the spec with the links in their targets followed, when a waiting container can take this root; null when not: an earlier sandbox has put
 * links where files of a sandbox's own are mounted, which an OCI runtime follows inside and the adoption does not. Throws as a cold start does.
 */
export async function planWarmStart({ root, mounts }: SandboxSpec): Promise<readonly MountSpec[] | null> {
  const path = contentOf(root);
  const [, resolved, links] = await settleAll([
    requireOwnDirectories(path),
    resolveTargets(path, root.kind, mounts),
    findLinks(path, FIXED_TARGETS),
  ]);
  return links.length === 0 ? resolved : null;
}

/**
 * Makes the sandbox of a container that waits. Its agent has the sandbox's variables only at the end. `undo` gets everything, the container first. After a
 * failure nothing of the user's has run; undoing it frees the directories of the spec.
 */
export async function startWarm(
  shared: SharedParts,
  warm: WarmParts,
  start: WarmStart,
  { undo, trace, signal }: { readonly undo: UndoStack; readonly trace: Trace; readonly signal: AbortSignal },
): Promise<WaitingParts> {
  const { spec, limits, hostname, container, mounts } = start;
  const { root, env, egress } = spec;
  undo.use(container);
  const parts = container.adopt();
  const { environment, agent } = parts;
  const { namespaces, cgroupPath } = environment;
  const { ids, address } = namespaces.slot;
  const variables = agentEnvironment(env, limits.memoryBytes, root.kind === "persistent" ? "/tmp" : null);
  using configuration = agent.openConfiguration(HOME, variables, signal);
  const hasSecrets = (egress?.secrets.length ?? 0) > 0;
  const limit = () =>
    settleAll([
      hasSecrets ? authorityOf(shared, root) : Promise.resolve(null),
      sandboxCgroup(shared, spec, limits, cgroupPath, undo),
      restrictEgress(shared, spec, address, undo),
    ]);
  // What restricts a sandbox is given up when nothing runs in it any more.
  const [certificates, cgroup] = await trace.run("limits", limit).finally(() => undo.defer(() => container.kill()));
  signal.throwIfAborted();
  await trace.run("adopt", () =>
    warm.adopter.adopt({
      mountNamespace: parts.mountNamespace.fd,
      utsNamespace: parts.utsNamespace.fd,
      userNamespace: namespaces.user.fd,
      agentRun: parts.agentRun.fd,
      ownerId: ids.firstHostId,
      cgroup: [...cgroup, ...weightSettings(shared.cgroups, cgroupPath, "normal")],
      processIds: parts.processIds,
      limits,
      hostname,
      root,
      ownFiles: ownFiles(hostname, address, shared.resolvConf),
      certificates: certificates === null ? null : { path: CERTIFICATES, content: certificates },
      mounts,
      lowerPath: warm.lowerPath,
    }),
  );
  signal.throwIfAborted();
  await trace.run("configure", () => configuration.send());
  container.run();
  return parts;
}

/** Takes away what a failed start has put into a scratch disk, so that another can begin. Nothing of the user's is there yet. */
export async function clearScratch(root: RootSpec): Promise<void> {
  if (root.kind === "persistent") return;
  for (const name of ["upper", "work"]) await rm(join(root.scratchPath, name), { recursive: true, force: true });
}

async function authorityOf(shared: SharedParts, root: RootSpec): Promise<string> {
  return certificateBundle(contentOf(root), await shared.egress.authorityCertificate());
}
