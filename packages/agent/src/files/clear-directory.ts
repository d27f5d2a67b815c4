import { removeTree } from "./remove-tree.ts";

/** Where what goes is put first, so that nothing waits for its removal. */
const TRASH_PREFIX = ".caisson-old-";

/**
 * Empties a directory: all of it is out of the way at once, and removed in the background. What a removal that was cut off has left goes too. A
 * link in place of the directory is not followed. What cannot be moved stays. Where something is mounted, there or below, by whatever way it came
 * there, nothing is touched: that is not temporary. Where the file system is too full to move anything, files are removed until it is not.
 */
export async function clearDirectory(path: string): Promise<void> {
  if (!isDirectory(path) || hasMounts(path)) return;
  const entries = [...Deno.readDirSync(path)];
  const paths = [...entries.filter(isQuickToRemove), ...entries.filter((entry) => !isQuickToRemove(entry))].map(
    ({ name }) => `${path}/${name}`,
  );
  const trash = `${path}/${TRASH_PREFIX}${crypto.randomUUID()}`;
  let next = paths.shift();
  for (
    ;
    next !== undefined && !(await tryOn(trash, () => Deno.mkdirSync(trash, { mode: 0o700 })));
    next = paths.shift()
  ) {
    const full = next;
    await tryOn(full, () => removeTree(full));
  }
  if (next === undefined) return;
  for (const moved of [next, ...paths]) await tryOn(moved, () => Deno.renameSync(moved, moved.replace(path, trash)));
  removeTree(trash).catch((error: unknown) => console.error(`${trash} stays:`, error));
}

function isQuickToRemove({ isDirectory }: Deno.DirEntry): boolean {
  return !isDirectory;
}

/** False when it failed, which the sandbox's log tells: what is only temporary keeps no sandbox from starting. */
async function tryOn(path: string, run: () => void | Promise<void>): Promise<boolean> {
  try {
    await run();
    return true;
  } catch (error) {
    console.error(`Cannot clear ${path}:`, error);
    return false;
  }
}

function isDirectory(path: string): boolean {
  try {
    return Deno.lstatSync(path).isDirectory;
  } catch {
    return false;
  }
}

function hasMounts(path: string): boolean {
  const mountPoints = Deno.readTextFileSync("/proc/self/mountinfo")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "");
  return mountPoints.some((mountPoint) => mountPoint === path || mountPoint.startsWith(`${path}/`));
}
