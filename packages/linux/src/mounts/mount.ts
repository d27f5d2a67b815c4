import { setTimeout as delay } from "node:timers/promises";
import { Descriptor, type HasDescriptor } from "../calls/descriptor.ts";
import { call } from "../calls/ffi.ts";
import { hasErrorCode } from "../calls/kernel-error.ts";

/** Numbers of mount_setattr(2), open_tree(2), move_mount(2), fsopen(2), fsconfig(2), fsmount(2): the same on every architecture. */
export const MOUNT_SYSCALLS = {
  openTree: 428,
  moveMount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  fspick: 433,
  mountSetattr: 442,
} as const;

export const AT_FDCWD = -100;
export const AT_EMPTY_PATH = 0x1000;
const AT_RECURSIVE = 0x8000;
export const OPEN_TREE_CLONE = 1;
export const OPEN_TREE_CLOEXEC = 0o2000000;
export const MOVE_MOUNT_F_EMPTY_PATH = 4;
const FSOPEN_CLOEXEC = 1;
const FSMOUNT_CLOEXEC = 1;
export const FSCONFIG = { setFlag: 0, setString: 1 } as const;
export const FSCONFIG_CREATE = 6;
export const MNT_DETACH = 2;
export const UMOUNT_NOFOLLOW = 8;

const ATTRIBUTE = { readOnly: 0x1, noSuid: 0x2, noDev: 0x4, noExec: 0x8, noAtime: 0x10, idmap: 0x100000 } as const;
const ATIME_MASK = 0x70;

const PROPAGATION = { shared: 1 << 20, private: 1 << 18, slave: 1 << 19 } as const;

/** What a mount allows, whatever lies under it. Unnamed ones stay off on a new mount, and as they are on a bind mount. */
export interface MountAttributes {
  readonly isReadOnly?: boolean;
  readonly noSuid?: boolean;
  readonly noDev?: boolean;
  readonly noExec?: boolean;
  readonly noAtime?: boolean;
}

export interface TreeAttributes extends MountAttributes {
  /** Translate owners by the mappings of this user namespace (a descriptor of `/proc/<pid>/ns/user`). Only once per mount. */
  readonly idmap?: HasDescriptor;
  readonly propagation?: keyof typeof PROPAGATION;
  /** Change the mounts below this one too. */
  readonly isRecursive?: boolean;
}

export interface FileSystemMount {
  /** File system type, for example `ext4` or `overlay`. */
  readonly type: string;
  /** The device, or any text for file systems without one. */
  readonly source: string;
  /** Options of the file system: `true` sets a flag, `false` leaves it away. Values may be of any length, one at a time up to 255 bytes. */
  readonly options?: Readonly<Record<string, string | boolean>>;
  /** Whether the file system itself is read-only: it then writes nothing to the device. */
  readonly isReadOnly?: boolean;
}

/**
 * Mounts a file system on `target` in one call of the classic interface. Options are comma-separated text.
 * Use `createFileSystemMount` where values may hold commas or a mount is wanted that is not yet anywhere.
 */
export async function mountFileSystem(
  mount: { readonly type: string; readonly source: string; readonly target: string; readonly options?: string },
  attributes: MountAttributes = {},
): Promise<void> {
  const { type, source, target, options = "" } = mount;
  const args = [source, target, type, classicFlags(attributes), options];
  await call("mount", args, { name: "mount", detail: `${source} on ${target} as ${type} (${options})` });
}

/** Makes a mount of a file system that is attached nowhere yet; `moveMount` puts it in its place. It goes when the descriptor closes unplaced. */
export async function createFileSystemMount(
  mount: FileSystemMount,
  attributes: MountAttributes = {},
): Promise<Descriptor> {
  const detail = `${mount.source} as ${mount.type}`;
  await using context = new Descriptor(
    await call("fsopen", [MOUNT_SYSCALLS.fsopen, mount.type, FSOPEN_CLOEXEC], { name: "fsopen", detail: mount.type }),
  );
  const configure = (command: number, key: string | null, value: string | null): Promise<number> =>
    call("fsconfig", [MOUNT_SYSCALLS.fsconfig, context.fd, command, key, value, 0], {
      name: "fsconfig",
      detail: `${detail}${key === null ? "" : ` ${key}${value === null ? "" : `=${value}`}`}`,
    });
  await configure(FSCONFIG.setString, "source", mount.source);
  if (mount.isReadOnly === true) await configure(FSCONFIG.setFlag, "ro", null);
  for (const [key, value] of Object.entries(mount.options ?? {})) {
    if (value === true) await configure(FSCONFIG.setFlag, key, null);
    else if (value !== false) await configure(FSCONFIG.setString, key, value);
  }
  await configure(FSCONFIG_CREATE, null, null);
  const args = [MOUNT_SYSCALLS.fsmount, context.fd, FSMOUNT_CLOEXEC, attributeBits(attributes)];
  return new Descriptor(await call("fsmount", args, { name: "fsmount", detail }));
}

/** Opens a copy of the mount at `path` (with everything below it, if recursive), attached nowhere yet. It goes when the descriptor closes unplaced. */
export async function cloneTree(path: string, options: { readonly isRecursive?: boolean } = {}): Promise<Descriptor> {
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (options.isRecursive === true ? AT_RECURSIVE : 0);
  return new Descriptor(
    await call("openTree", [MOUNT_SYSCALLS.openTree, AT_FDCWD, path, flags], { name: "open_tree", detail: path }),
  );
}

/** Changes attributes of a mount given by descriptor or by path. Only attributes that are named change. */
export async function setMountAttributes(mount: HasDescriptor | string, attributes: TreeAttributes): Promise<void> {
  const request = attributeRequest(attributes);
  const [fd, path] = typeof mount === "string" ? [AT_FDCWD, mount] : [mount.fd, ""];
  const flags = (path === "" ? AT_EMPTY_PATH : 0) | (attributes.isRecursive === true ? AT_RECURSIVE : 0);
  await call("mountSetattr", [MOUNT_SYSCALLS.mountSetattr, fd, path, flags, request, request.length], {
    name: "mount_setattr",
    detail: path === "" ? `of descriptor ${fd}` : path,
  });
}

/** `struct mount_attr`. */
export function attributeRequest(attributes: TreeAttributes): Buffer {
  const names = { readOnly: "isReadOnly", noSuid: "noSuid", noDev: "noDev", noExec: "noExec" } as const;
  let set = 0;
  let clear = 0;
  for (const [bit, name] of Object.entries(names)) {
    const value = attributes[name];
    if (value === true) set |= ATTRIBUTE[bit as keyof typeof names];
    else if (value === false) clear |= ATTRIBUTE[bit as keyof typeof names];
  }
  if (attributes.noAtime !== undefined) {
    // Access times are a field of several bits, not a flag: it is cleared as a whole and set anew (0 is relatime).
    clear |= ATIME_MASK;
    if (attributes.noAtime) set |= ATTRIBUTE.noAtime;
  }
  if (attributes.idmap !== undefined) set |= ATTRIBUTE.idmap;
  const request = Buffer.alloc(32);
  request.writeBigUInt64LE(BigInt(set), 0);
  request.writeBigUInt64LE(BigInt(clear), 8);
  request.writeBigUInt64LE(BigInt(attributes.propagation === undefined ? 0 : PROPAGATION[attributes.propagation]), 16);
  request.writeBigUInt64LE(BigInt(attributes.idmap?.fd ?? 0), 24);
  return request;
}

/** Puts an unattached mount at `target`, or moves an attached one there. */
export async function moveMount(mount: HasDescriptor, target: string): Promise<void> {
  const args = [MOUNT_SYSCALLS.moveMount, mount.fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH];
  await call("moveMount", args, { name: "move_mount", detail: `to ${target}` });
}

/** Shows the directory or file `source` at `target` too, with attributes (ids translated, read-only, …) that hold from the first instant. */
export async function bindMount(source: string, target: string, attributes: TreeAttributes = {}): Promise<void> {
  await using tree = await cloneTree(source, { isRecursive: attributes.isRecursive === true });
  if (Object.keys(attributes).some((name) => name !== "isRecursive")) await setMountAttributes(tree, attributes);
  await moveMount(tree, target);
}

export interface UnmountOptions {
  /** Only hides it now and leaves the rest to the kernel for when nobody uses it; nothing may then be concluded about the device. */
  readonly isLazy?: boolean;
  /** How long it may be in use until that is an error, such as by a program that looks at it for a moment. Default: not at all. */
  readonly timeoutMs?: number;
}

/** Unmounts `target`, which must be a mount itself. Not mounted, or not there, is success; in use is `EBUSY`. */
export async function unmount(target: string, { isLazy = false, timeoutMs = 0 }: UnmountOptions = {}): Promise<void> {
  const flags = UMOUNT_NOFOLLOW | (isLazy ? MNT_DETACH : 0);
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      await call("umount2", [target, flags], { name: "umount", detail: target });
      return;
    } catch (error) {
      if (hasErrorCode(error, "EINVAL", "ENOENT")) return;
      if (!hasErrorCode(error, "EBUSY") || performance.now() >= deadline) throw error;
      await delay(20);
    }
  }
}

export function attributeBits(attributes: MountAttributes): number {
  return (
    (attributes.isReadOnly === true ? ATTRIBUTE.readOnly : 0) |
    (attributes.noSuid === true ? ATTRIBUTE.noSuid : 0) |
    (attributes.noDev === true ? ATTRIBUTE.noDev : 0) |
    (attributes.noExec === true ? ATTRIBUTE.noExec : 0) |
    (attributes.noAtime === true ? ATTRIBUTE.noAtime : 0)
  );
}

/** The classic interface shares the four lowest bits with the new one; only `noatime` lies elsewhere. */
function classicFlags(attributes: MountAttributes): number {
  const MS_NOATIME = 1024;
  return attributeBits({ ...attributes, noAtime: false }) | (attributes.noAtime === true ? MS_NOATIME : 0);
}
