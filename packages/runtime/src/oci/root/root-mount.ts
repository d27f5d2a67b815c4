import { chown, mkdir } from "node:fs/promises";
import { join } from "node:path";
import {
  bindMount,
  cloneTree,
  createFileSystemMount,
  createNetworkSysfs,
  type HasDescriptor,
  type IdRange,
  moveMount,
  setMountAttributes,
} from "@caisson/linux";
import type { MountSpec, RootSpec } from "../../runtime.ts";
import { type SandboxDirectory, unmountInTime } from "../sandbox-directory.ts";
import { openLayer } from "./layer.ts";

/** Set-user-id programs such as sudo must work on a root; they gain ids of the sandbox only. */
export const ROOT_ATTRIBUTES = { noDev: true } as const;
/** Volumes hold data: no programs that gain ids, and no devices. */
export const DATA_ATTRIBUTES = { noDev: true, noSuid: true } as const;

/**
 * What an overlay leaves away by default and programs take for granted of a file system. `redirect_dir`: a directory of the lower layer can be
 * renamed (without it EXDEV: `git mv`, `os.rename`). `index`: names that are links of one file stay so when it is written to. `xino`: a file keeps
 * its inode number when it is written to, and all files have one device number. The first follows a note in the layers (a `trusted` attribute, which
 * nobody inside can write) to another place in the same layers, so it shows nothing that the sandbox does not have anyway. Not `metacopy`:
 * it would spare the copy on chown and chmod only, and let a file's content and its owner come from different layers.
 */
const LIKE_ONE_FILE_SYSTEM = { redirect_dir: "on", index: "on", xino: "on" } as const;

/** Options of an ephemeral root. `volatile` spends no disk flush on it. */
export function overlayOptions(layers: {
  readonly lowerdir: string;
  readonly upperdir: string;
  readonly workdir: string;
}): Readonly<Record<string, string | boolean>> {
  return { ...LIKE_ONE_FILE_SYSTEM, volatile: true, ...layers };
}

/**
 * Mounts the root with owners translated to the sandbox's ids.
 *
 * An ephemeral root is an overlay. Only its lower layer is translated: the upper one is empty at first and thrown away at the end, so it
 * may hold the host's numbers as they are.
 */
export async function mountRoot(
  directory: SandboxDirectory,
  root: RootSpec,
  idmap: HasDescriptor,
  ids: IdRange,
): Promise<string> {
  if (root.kind === "persistent") {
    return directory.mount("root", (target) => bindMount(root.path, target, { ...ROOT_ATTRIBUTES, idmap }));
  }
  const upper = join(root.scratchPath, "upper");
  const work = join(root.scratchPath, "work");
  await mkdir(upper, { mode: 0o755 });
  await mkdir(work);
  // The upper layer's own directory is the root directory that the sandbox sees.
  await chown(upper, ids.firstHostId, ids.firstHostId);
  const lower = await directory.mount("lower", (target) =>
    bindMount(root.lowerPath, target, { isReadOnly: true, idmap }),
  );
  const target = await directory.mount("root", async (path) => {
    await using layers = new AsyncDisposableStack();
    const [lowerdir, upperdir, workdir] = await Promise.all([
      openLayer(lower, layers),
      openLayer(upper, layers),
      openLayer(work, layers),
    ]);
    const options = overlayOptions({ lowerdir, upperdir, workdir });
    await using overlay = await createFileSystemMount({ type: "overlay", source: "caisson", options }, ROOT_ATTRIBUTES);
    await moveMount(overlay, path);
  });
  // The overlay keeps the layer by itself. One mount less per sandbox makes the start of all others faster, since each copies all mounts.
  await unmountInTime(lower);
  return target;
}

/** Mounts one data directory with owners translated, and returns it as seen from the host. */
export async function mountData(
  directory: SandboxDirectory,
  index: number,
  mount: MountSpec,
  idmap: HasDescriptor,
): Promise<MountSpec> {
  const sourcePath = await directory.mount(`mount-${index}`, async (target) => {
    await using tree = await cloneTree(mount.sourcePath);
    await setMountAttributes(tree, { ...DATA_ATTRIBUTES, isReadOnly: mount.isReadOnly, idmap });
    await moveMount(tree, target);
  });
  return { ...mount, sourcePath };
}

/** Mounts a sysfs of the sandbox's network on the host; the sandbox gets a few directories of it. */
export async function mountNetworkSysfs(directory: SandboxDirectory, network: HasDescriptor): Promise<string> {
  return directory.mount("sys", async (target) => {
    const attributes = { isReadOnly: true, noDev: true, noSuid: true, noExec: true };
    await using sysfs = await createNetworkSysfs(network, attributes);
    await moveMount(sysfs, target);
  });
}

export const AGENT_RUN_BYTES = 256 * 1024;

/**
 * A very small file system in which the agent makes its socket. Its log, which is all that may grow there, ends when it is full. `extraBytes` is
 * for files that the server puts there.
 */
export async function mountAgentRun(directory: SandboxDirectory, ids: IdRange, extraBytes: number): Promise<string> {
  return directory.mount("run", async (target) => {
    const owner = String(ids.firstHostId);
    const options = {
      size: String(AGENT_RUN_BYTES + extraBytes),
      nr_inodes: "16",
      mode: "0700",
      uid: owner,
      gid: owner,
    };
    const attributes = { noDev: true, noSuid: true, noExec: true };
    await using tmpfs = await createFileSystemMount({ type: "tmpfs", source: "caisson", options }, attributes);
    await moveMount(tmpfs, target);
  });
}
