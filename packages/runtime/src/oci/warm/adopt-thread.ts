import { chownSync, closeSync, constants, mkdirSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parentPort } from "node:worker_threads";
import {
  cloneTreeSync,
  createFileSystemMountSync,
  detachFormerRootSync,
  detachSync,
  ensureInsideSync,
  faultPointSync,
  foreseeFaultPoints,
  HomeNamespaces,
  limitProcessesSync,
  moveMountSync,
  reconfigureSync,
  replaceRootSync,
  type TreeAttributes,
  withFileSystemIdsSync,
  writeCgroupSync,
} from "@caisson/linux";
import type { MountSpec } from "../../runtime.ts";
import { AGENT_RUN_TARGET } from "../agent/agent-bundle.ts";
import { sharedMemoryBytes, terminalOptions } from "../config.ts";
import { CERTIFICATES_BYTES_MAX } from "../root/certificate-bundle.ts";
import { AGENT_RUN_BYTES, DATA_ATTRIBUTES, overlayOptions, ROOT_ATTRIBUTES } from "../root/root-mount.ts";
import type { Adoption, AdoptionAnswer } from "./adoption.ts";
import { KEPT_MOUNTS, NEW_ROOT } from "./placeholder.ts";

/**
 * The thread that makes sandboxes of waiting containers, one after the other (docs/adr/0005). It enters the mount namespace of a container, in
 * which no code of a user has ever run, gives it its root and everything on it, and comes back; nothing else happens on this thread meanwhile,
 * because every call is synchronous. After a failure, of the way back too, it ends, and the server makes another.
 *
 * The order: what can fail without the container is first; then the root is attached beside the placeholder, filled, and made the root of the container's
 * processes. A failure anywhere leaves a container that must be discarded, and nothing attached on the host.
 */
const home = new HomeNamespaces();

const FILE_ATTRIBUTES = { noDev: true, noSuid: true, noExec: true, propagation: "private" } as const;
const DIRECTORY_FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** Memory of the sandbox's own on which volumes may be mounted (`ociConfig`). */
const OWN_MEMORY: readonly string[] = ["/run", "/run/lock"];

/** Descriptors that are closed at the end, whatever happens. */
class Opened implements Disposable {
  readonly #descriptors: number[] = [];

  keep(descriptor: number): number {
    this.#descriptors.push(descriptor);
    return descriptor;
  }

  [Symbol.dispose](): void {
    for (const descriptor of this.#descriptors) closeSync(descriptor);
  }
}

/** Steps that are done where the thread can read no file of the host. */
const AWAY_STEPS = ["enter", "attach", "keep", "own-files", "mounts", "sizes", "pivot", "detach", "leave"] as const;
type Pass = (step: (typeof AWAY_STEPS)[number]) => void;

function foresee(): Pass {
  const pass = foreseeFaultPoints(AWAY_STEPS.map((step) => `runtime.adopt.${step}`));
  return (step) => pass(`runtime.adopt.${step}`);
}

interface Volume extends MountSpec {
  readonly tree: number;
}

function adopt(order: Adoption): void {
  using opened = new Opened();
  const pass = foresee();
  limitProcesses(order);
  writeFiles(order);
  const root = opened.keep(makeRoot(order, opened));
  faultPointSync("runtime.adopt.root");
  const volumes = order.mounts.map((mount) => ({ ...mount, tree: opened.keep(cloneVolume(order, mount)) }));
  faultPointSync("runtime.adopt.volumes");
  try {
    home.enter({ uts: order.utsNamespace, mount: order.mountNamespace }, order.hostname);
    pass("enter");
    withFileSystemIdsSync(order.ownerId, () => changeRoot(order, { root, volumes, opened, pass }));
  } finally {
    pass("leave");
    home.leave();
  }
}

function limitProcesses({ cgroup, processIds, ownerId, limits }: Adoption): void {
  writeCgroupSync(cgroup);
  limitProcessesSync(processIds, ownerId, limits.pidsMax);
  faultPointSync("runtime.adopt.processes");
}

/** The file system of the agent's directory is as small as it can be, so it grows by what the certificates need. */
function writeFiles({ agentRun, ownFiles, certificates, ownerId }: Adoption): void {
  const directory = `/proc/self/fd/${agentRun}`;
  if (certificates !== null) {
    reconfigureSync(agentRun, "", { size: String(AGENT_RUN_BYTES + CERTIFICATES_BYTES_MAX) });
    writeFileSync(join(directory, CERTIFICATES_NAME), certificates.content, { mode: 0o644, flag: "wx" });
  }
  for (const { name, content } of ownFiles) {
    const path = join(directory, name);
    writeFileSync(path, content, { mode: 0o644, flag: "wx" });
    chownSync(path, ownerId, ownerId);
  }
  faultPointSync("runtime.adopt.files");
}

const CERTIFICATES_NAME = "ca-certificates.crt";

/** The root as `mountRoot` makes it, attached nowhere. */
function makeRoot({ root, userNamespace, ownerId, lowerPath }: Adoption, opened: Opened): number {
  const idmap = { fd: userNamespace };
  if (root.kind === "persistent")
    return cloneTreeSync(root.path, { ...ROOT_ATTRIBUTES, idmap, propagation: "private" });
  const upper = join(root.scratchPath, "upper");
  const work = join(root.scratchPath, "work");
  mkdirSync(upper, { mode: 0o755 });
  mkdirSync(work);
  chownSync(upper, ownerId, ownerId);
  const lower = opened.keep(cloneTreeSync(root.lowerPath, { isReadOnly: true, idmap, propagation: "private" }));
  if (lowerPath !== null) moveMountSync(lower, lowerPath);
  try {
    const options = overlayOptions({
      lowerdir: nameOf(lower),
      upperdir: nameOf(opened.keep(openSync(upper, DIRECTORY_FLAGS))),
      workdir: nameOf(opened.keep(openSync(work, DIRECTORY_FLAGS))),
    });
    return createFileSystemMountSync({ type: "overlay", source: "caisson", options }, ROOT_ATTRIBUTES);
  } finally {
    if (lowerPath !== null) detachSync(lowerPath);
  }
}

/** By which the kernel finds a layer, and a sandbox learns nothing of the host's paths. */
function nameOf(descriptor: number): string {
  return `/proc/self/fd/${descriptor}`;
}

function cloneVolume({ userNamespace }: Adoption, { sourcePath, isReadOnly }: MountSpec): number {
  return cloneTreeSync(sourcePath, {
    ...DATA_ATTRIBUTES,
    isReadOnly,
    idmap: { fd: userNamespace },
    propagation: "private",
  });
}

/** In the container's namespace, where `/` is the placeholder. */
function changeRoot(
  order: Adoption,
  {
    root,
    volumes,
    opened,
    pass,
  }: { readonly root: number; readonly volumes: readonly Volume[]; readonly opened: Opened; readonly pass: Pass },
): void {
  moveMountSync(root, NEW_ROOT);
  pass("attach");
  const ownMounts = OWN_MEMORY.map((path) => ({ path, directory: opened.keep(openSync(path, DIRECTORY_FLAGS)) }));
  for (const { path, kind } of KEPT_MOUNTS) moveMountSync(path, opened.keep(ensureInsideSync(root, path, kind)));
  pass("keep");
  for (const { name, path } of order.ownFiles) mountFile(root, name, path, {}, opened);
  if (order.certificates !== null)
    mountFile(root, CERTIFICATES_NAME, order.certificates.path, { isReadOnly: true }, opened);
  pass("own-files");
  mountVolumes(root, ownMounts, volumes, opened);
  pass("mounts");
  resize(order, root);
  pass("sizes");
  replaceRootSync(root);
  pass("pivot");
  detachFormerRootSync();
  pass("detach");
}

/** The agent's directory is on the new root by now, so its files are found there, attached, as every kernel can copy them. */
function mountFile(root: number, name: string, path: string, attributes: TreeAttributes, opened: Opened): void {
  const source = join(NEW_ROOT, AGENT_RUN_TARGET, name);
  const tree = opened.keep(cloneTreeSync(source, { ...FILE_ATTRIBUTES, ...attributes }));
  moveMountSync(tree, opened.keep(ensureInsideSync(root, path, "file")));
}

/**
 * No path crosses from one mount to another, so a target is looked for on the mount that shows there: another volume, or memory of the sandbox's own. A
 * volume may also lie right over one of those, and hides what lies below it.
 */
function mountVolumes(root: number, ownMounts: readonly Layer[], volumes: readonly Volume[], opened: Opened): void {
  let layers: readonly Layer[] = [{ path: "", directory: root }, ...ownMounts];
  for (const { targetPath, tree } of volumes) {
    const { path, directory } = layers
      .filter((layer) => isAtOrBelow(targetPath, layer.path))
      .reduce((one, other) => (other.path.length > one.path.length ? other : one));
    const target = opened.keep(ensureInsideSync(directory, targetPath.slice(path.length), "directory"));
    moveMountSync(tree, target);
    const shown = layers.filter((layer) => !isAtOrBelow(layer.path, targetPath));
    layers = [...shown, { path: targetPath, directory: tree }];
  }
}

/** A mount, and the descriptor of its own directory. */
interface Layer {
  readonly path: string;
  readonly directory: number;
}

function isAtOrBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

function resize({ limits, ownerId }: Adoption, root: number): void {
  reconfigureSync(root, "dev/shm", { size: String(sharedMemoryBytes(limits)) });
  reconfigureSync(root, "dev/pts", { ...terminalOptions(ownerId), max: String(limits.terminalsMax) });
}

parentPort?.on("message", ({ key, order }: { readonly key: number; readonly order: Adoption }) => {
  let error: string | null = null;
  try {
    adopt(order);
  } catch (reason) {
    error = String(reason);
  }
  parentPort?.postMessage({ key, error } satisfies AdoptionAnswer);
  // It may be somewhere else, or have the ids of somebody else: it must touch nothing any more.
  if (error !== null) process.exit(1);
});
