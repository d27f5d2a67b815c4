import { mkdir, rmdir } from "node:fs/promises";
import { cloneTree, createFileSystemMount, hasErrorCode, unmount } from "@caisson/linux";

/** Where lower layers of roots are mounted for a moment; null: the kernel can do without. */
export interface LowerPath extends AsyncDisposable {
  readonly path: string | null;
}

/** `isPortable`: whether to do without what Linux has since 6.15. Default: as the kernel is. */
export async function prepareLowerPath(path: string, isPortable?: boolean): Promise<LowerPath> {
  if (!(isPortable ?? !(await canStackUnattached()))) {
    return { path: null, [Symbol.asyncDispose]: async () => undefined };
  }
  // Left by a server that was killed without namespaces of its own.
  await unmount(path, { isLazy: true });
  await mkdir(path, { recursive: true, mode: 0o711 });
  return { path, [Symbol.asyncDispose]: () => rmdir(path) };
}

/** Linux 6.15 and later copy a mount that is attached nowhere, and take one for a layer of an overlay. */
async function canStackUnattached(): Promise<boolean> {
  await using tmpfs = await createFileSystemMount({ type: "tmpfs", source: "caisson", options: { size: "4096" } });
  try {
    await using copy = await cloneTree(tmpfs.path);
    return copy.fd >= 0;
  } catch (error) {
    if (hasErrorCode(error, "EINVAL")) return false;
    throw error;
  }
}
