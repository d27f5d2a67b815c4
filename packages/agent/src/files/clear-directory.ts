/** Where what goes is put first, so that nothing waits for its removal. */
const TRASH_PREFIX = ".caisson-old-";

/**
 * Empties a directory: all of it is out of the way at once, and removed in the background. What a removal that was cut off has left goes too. A
 * link in place of the directory is not followed. What cannot be moved stays. Where something is mounted, there or below, by whatever way it came
 * there, nothing is touched: that is not temporary.
 */
export function clearDirectory(path: string): void {
  if (!isDirectory(path) || hasMounts(path)) return;
  const names = [...Deno.readDirSync(path)].map(({ name }) => name);
  if (names.length === 0) return;
  const trash = `${path}/${TRASH_PREFIX}${crypto.randomUUID()}`;
  Deno.mkdirSync(trash, { mode: 0o700 });
  for (const name of names) {
    try {
      Deno.renameSync(`${path}/${name}`, `${trash}/${name}`);
    } catch (error) {
      console.error(`${path}/${name} stays:`, error);
    }
  }
  Deno.remove(trash, { recursive: true }).catch((error: unknown) => console.error(`${trash} stays:`, error));
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
