import { isRaw } from "./names/raw-name.ts";
import { reach, rename } from "./names/reach.ts";

/** Directories whose paths are longer than that of the top by so much are moved up. */
const BELOW_BYTES_MAX = 1000;
/** The kernel takes 4095 bytes, and a name has up to 255. */
const PATH_BYTES_MAX = 3500;

const encoder = new TextEncoder();

/**
 * Removes a directory with everything below it. Deno removes directories by calling itself for each level, with a descriptor for each, and on a stack that some
 * 10,000 levels overflow, which ends the whole process; so what lies deep is moved to the top first. A failure may leave a part of it there.
 */
export async function removeTree(path: string): Promise<void> {
  if (isRaw(path)) return await removeRaw(path);
  await flatten(path);
  await Deno.remove(path, { recursive: true });
}

/** Deno removes whatever names are below, but not under such a name itself. */
async function removeRaw(path: string): Promise<void> {
  const parent = path.replace(/\/*[^/]*\/*$/, "");
  await reach(parent === "" ? "/" : parent, async (directory) => {
    const moved = `${directory}/.caisson-${crypto.randomUUID()}`;
    await rename(path.replace(/\/+$/, ""), moved);
    await removeTree(moved);
  });
}

async function flatten(top: string): Promise<void> {
  // What is no directory, or not there, is for the removal itself to judge.
  const isDirectory = await Deno.lstat(top).then(
    (info) => info.isDirectory,
    () => false,
  );
  const found = isDirectory ? [top] : [];
  const limitBytes = Math.min(encoder.encode(top).length + BELOW_BYTES_MAX, PATH_BYTES_MAX);
  for (let directory = found.pop(); directory !== undefined; directory = found.pop()) {
    if (encoder.encode(directory).length > limitBytes) {
      const moved = `${top}/${crypto.randomUUID()}`;
      await Deno.rename(directory, moved);
      directory = moved;
    }
    try {
      for await (const entry of Deno.readDir(directory))
        if (entry.isDirectory) found.push(`${directory}/${entry.name}`);
    } catch (error) {
      // Gone meanwhile, closed to this user, or with a name that is not UTF-8: the removal says so if it matters.
      if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied)) throw error;
    }
  }
}
