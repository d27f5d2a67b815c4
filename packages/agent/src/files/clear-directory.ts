/** Where what goes is put first, so that nothing waits for its removal. */
const TRASH_PREFIX = ".caisson-old-";

/**
 * Empties a directory: all of it is out of the way at once, and removed in the background. What a removal that was cut off has left goes too. A
 * link in place of the directory is not followed. What cannot be moved stays. Where something is mounted, there or below, by whatever way it came
 * there, nothing is touched: that is not temporary. Where the file system is too full to move anything, files are removed until it is not.
 */
export function clearDirectory(path: string): void {
  if (!isDirectory(path) || hasMounts(path)) return;
  const entries = [...Deno.readDirSync(path)];
  const paths = [...entries.filter(isQuickToRemove), ...entries.filter((entry) => !isQuickToRemove(entry))].map(
    ({ name }) => `${path}/${name}`,
  );
  const trash = `${path}/${TRASH_PREFIX}${crypto.randomUUID()}`;
  let next = paths.shift();
  for (; next !== undefined && !tryOn(trash, () => Deno.mkdirSync(trash, { mode: 0o700 })); next = paths.shift()) {
    const full = next;
    tryOn(full, () => Deno.removeSync(full, { recursive: true }));
  }
  if (next === undefined) return;
  for (const moved of [next, ...paths]) tryOn(moved, () => Deno.renameSync(moved, moved.replace(path, trash)));
  Deno.remove(trash, { recursive: true }).catch((error: unknown) => console.error(`${trash} stays:`, error));
}

function isQuickToRemove({ isDirectory }: Deno.DirEntry): boolean {
  return !isDirectory;
}

/** False when it failed, which the sandbox's log tells: what is only temporary keeps no sandbox from starting. */
function tryOn(path: string, run: () => void): boolean {
  try {
    run();
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
