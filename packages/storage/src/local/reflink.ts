import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { cloneFile, hasErrorCode, openFile } from "@caisson/linux";

/** Whether files of the directory can share blocks: tried out, because the file system's type alone does not tell. */
export async function hasReflink(directory: string): Promise<boolean> {
  const names = ["source", "target"].map((name) =>
    join(directory, `.reflink-${name}-${randomBytes(6).toString("hex")}`),
  );
  const [sourcePath = "", targetPath = ""] = names;
  try {
    await using source = await openFile(sourcePath, "wx+");
    await using target = await openFile(targetPath, "wx+");
    await source.write(Buffer.alloc(4096, 1));
    await cloneFile(source, target, targetPath);
    return true;
  } catch (error) {
    if (hasErrorCode(error, "ENOTSUP", "ENOTTY", "EINVAL", "ENOSYS", "EXDEV")) return false;
    throw error;
  } finally {
    for (const name of names) await rm(name, { force: true });
  }
}
