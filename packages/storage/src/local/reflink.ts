import { rm } from "node:fs/promises";
import { join } from "node:path";
import { cloneFile, hasErrorCode, openFile } from "@caisson/linux";

/** Whether files of the directory can share blocks: tried out, because the file system's type alone does not tell. */
export async function hasReflink(directory: string): Promise<boolean> {
  // Always the same names: what a crash leaves goes with the next trial.
  const [sourcePath, targetPath] = [join(directory, ".reflink-source"), join(directory, ".reflink-target")];
  try {
    await using source = await openFile(sourcePath, "w+");
    await using target = await openFile(targetPath, "w+");
    await source.write(Buffer.alloc(4096, 1));
    await cloneFile(source, target, targetPath);
    return true;
  } catch (error) {
    if (hasErrorCode(error, "ENOTSUP", "ENOTTY", "EINVAL", "ENOSYS", "EXDEV")) return false;
    throw error;
  } finally {
    for (const name of [sourcePath, targetPath]) await rm(name, { force: true });
  }
}
