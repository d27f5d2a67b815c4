import { closeSync } from "node:fs";
import { callSync } from "../calls/ffi.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  attributeBits,
  attributeRequest,
  type FileSystemMount,
  FSCONFIG,
  FSCONFIG_CREATE,
  MNT_DETACH,
  MOUNT_SYSCALLS,
  MOVE_MOUNT_F_EMPTY_PATH,
  type MountAttributes,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
  type TreeAttributes,
  UMOUNT_NOFOLLOW,
} from "./mount.ts";

/**
 * The calls of `mount.ts` on the thread that it is in, for a thread of its own that may block, because what it mounts on are the mount namespace
 * and the root of just this thread. Descriptors are plain numbers that the caller closes. No fault points.
 */

const CLOEXEC = 1;
const MOVE_MOUNT_T_EMPTY_PATH = 0x40;
const FSPICK = { cloexec: 1, noFollow: 2, emptyPath: 8 } as const;
const FSCONFIG_RECONFIGURE = 7;

/** A copy of the mount at `path`, attached nowhere, that has the attributes from its first instant. */
export function cloneTreeSync(path: string, attributes: TreeAttributes = {}): number {
  const args = [MOUNT_SYSCALLS.openTree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC];
  const tree = callSync("openTree", args, { name: "open_tree", detail: path });
  const request = attributeRequest(attributes);
  try {
    callSync("mountSetattr", [MOUNT_SYSCALLS.mountSetattr, tree, "", AT_EMPTY_PATH, request, request.length], {
      name: "mount_setattr",
      detail: path,
    });
    return tree;
  } catch (error) {
    closeSync(tree);
    throw error;
  }
}

/** A new mount that is attached nowhere. */
export function createFileSystemMountSync(mount: FileSystemMount, attributes: MountAttributes = {}): number {
  const { type, source, isReadOnly = false, options = {} } = mount;
  const context = callSync("fsopen", [MOUNT_SYSCALLS.fsopen, type, CLOEXEC], { name: "fsopen", detail: type });
  try {
    configure(context, { source, ...(isReadOnly ? { ro: true } : {}), ...options }, FSCONFIG_CREATE, type);
    const args = [MOUNT_SYSCALLS.fsmount, context, CLOEXEC, attributeBits(attributes)];
    return callSync("fsmount", args, { name: "fsmount", detail: type });
  } finally {
    closeSync(context);
  }
}

/** Changes options of the mounted file system whose mount `path` is below the directory; "" is the directory itself. A link is not followed. */
export function reconfigureSync(directory: number, path: string, options: Readonly<Record<string, string>>): void {
  const flags = FSPICK.cloexec | FSPICK.noFollow | (path === "" ? FSPICK.emptyPath : 0);
  const args = [MOUNT_SYSCALLS.fspick, directory, path, flags];
  const context = callSync("fspick", args, { name: "fspick", detail: path });
  try {
    configure(context, options, FSCONFIG_RECONFIGURE, path);
  } finally {
    closeSync(context);
  }
}

function configure(
  context: number,
  options: Readonly<Record<string, string | boolean>>,
  command: number,
  detail: string,
): void {
  const call = (number: number, key: string | null, value: string | null): void => {
    callSync("fsconfig", [MOUNT_SYSCALLS.fsconfig, context, number, key, value, 0], {
      name: "fsconfig",
      detail: `${detail} ${key ?? ""}`,
    });
  };
  for (const [key, value] of Object.entries(options)) {
    if (value === true) call(FSCONFIG.setFlag, key, null);
    else if (value !== false) call(FSCONFIG.setString, key, value);
  }
  call(command, null, null);
}

/** Puts a mount, given by descriptor or by its path, in the place that a descriptor (of any kind) or a path names. */
export function moveMountSync(mount: number | string, target: number | string): void {
  const [fromFd, from, fromFlag] =
    typeof mount === "string" ? [AT_FDCWD, mount, 0] : [mount, "", MOVE_MOUNT_F_EMPTY_PATH];
  const [toFd, to, toFlag] = typeof target === "string" ? [AT_FDCWD, target, 0] : [target, "", MOVE_MOUNT_T_EMPTY_PATH];
  callSync("moveMount", [MOUNT_SYSCALLS.moveMount, fromFd, from, toFd, to, fromFlag | toFlag], {
    name: "move_mount",
    detail: `${mount} to ${target}`,
  });
}

/** Hides a mount and leaves the rest to the kernel for when nobody uses it. */
export function detachSync(target: string): void {
  callSync("umount2", [target, MNT_DETACH | UMOUNT_NOFOLLOW], { name: "umount", detail: target });
}

/**
 * Makes the directory, which must be the root of a mount, the root of the mount namespace. Every process in it whose root or current directory was the
 * former root has this one instead, and this thread is in it. The former root, with all that is mounted on it, then lies over the new one, until
 * `detachFormerRootSync` takes it away.
 */
export function replaceRootSync(directory: number): void {
  callSync("fchdir", [directory], { name: "fchdir", detail: "to the new root" });
  callSync("pivotRoot", [".", "."], { name: "pivot_root", detail: "." });
}

/** Takes away what `replaceRootSync` has left over the new root. The kernel lets go of it when nobody uses it any more. */
export function detachFormerRootSync(): void {
  callSync("umount2", [".", MNT_DETACH], { name: "umount", detail: "of the former root" });
}
