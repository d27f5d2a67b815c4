import { lstat, readlink } from "node:fs/promises";
import { join } from "node:path";
import { hasErrorCode } from "@caisson/linux";
import { CaissonError, reservedPathOf } from "@caisson/model";
import type { MountSpec } from "../../runtime.ts";

/** As many as the kernel follows (path_resolution(7)). */
const LINKS_MAX = 40;
/** Memory of the sandbox's own, empty at the start, whatever the root has there. */
const EMPTY_PATHS: readonly string[] = ["/run"];

/** What is mounted at a path of the sandbox, as seen from the host. */
interface Layer {
  readonly path: string;
  readonly sourcePath: string;
}

/**
 * The mounts of a sandbox with the links in their targets followed, in the root and in the volumes mounted before. An earlier sandbox may have planted
 * such links; a volume that they lead over the root, or over what belongs to the sandbox itself, would put programs of its own in the place of
 * the first process. Such a target is `INVALID_CONFIG`. Nothing that a link names is opened on the host.
 */
export async function resolveTargets(rootPath: string, mounts: readonly MountSpec[]): Promise<readonly MountSpec[]> {
  const layers: Layer[] = [{ path: "/", sourcePath: rootPath }];
  const resolved: MountSpec[] = [];
  for (const mount of mounts) {
    const targetPath = await followLinks(mount.targetPath, layers);
    requireAllowed(mount.targetPath, targetPath);
    layers.push({ path: targetPath, sourcePath: mount.sourcePath });
    resolved.push({ ...mount, targetPath });
  }
  return resolved;
}

/**
 * Throws where the root has a link in the place of a directory that the runtime mounts over: it would follow some of them, and put what
 * the sandbox needs somewhere else.
 */
export async function requireOwnDirectories(rootPath: string): Promise<void> {
  const [link] = await findLinks(rootPath, ["/proc", "/sys", "/dev", "/run", "/.caisson"]);
  if (link === undefined) return;
  const remedy = "Mount the volume in another sandbox and make it a directory";
  throw new CaissonError("SANDBOX_START_FAILED", `Cannot start a sandbox: ${link} of its root is a link. ${remedy}`);
}

/** Which of these paths of the root, and of the directories on the way to them, are links. */
export async function findLinks(rootPath: string, paths: readonly string[]): Promise<readonly string[]> {
  const all = new Set(paths.flatMap(withParents));
  const found = await Promise.all([...all].map(async (path) => ((await isLink(join(rootPath, path))) ? [path] : [])));
  return found.flat();
}

function withParents(path: string): readonly string[] {
  const names = path.split("/").slice(1);
  return names.map((_, index) => `/${names.slice(0, index + 1).join("/")}`);
}

async function isLink(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isSymbolicLink();
  } catch (error) {
    if (hasErrorCode(error, "ENOENT", "ENOTDIR")) return false;
    throw error;
  }
}

async function followLinks(path: string, layers: readonly Layer[]): Promise<string> {
  const rest = path.split("/");
  const done: string[] = [];
  for (let links = 0, name = rest.shift(); name !== undefined; name = rest.shift()) {
    if (name === "" || name === ".") continue;
    if (name === "..") {
      done.pop();
      continue;
    }
    const text = await readLink(`/${[...done, name].join("/")}`, layers);
    if (text === null) {
      done.push(name);
      continue;
    }
    links += 1;
    if (links > LINKS_MAX) throw refusal(path, "it leads through too many links");
    if (text.startsWith("/")) done.length = 0;
    rest.unshift(...text.split("/"));
  }
  return `/${done.join("/")}`;
}

/** The text of the link at a path whose parents are no links; null: it is no link, or there is nothing. */
async function readLink(path: string, layers: readonly Layer[]): Promise<string | null> {
  const isBelow = (directory: string): boolean =>
    directory === "/" || path === directory || path.startsWith(`${directory}/`);
  if (EMPTY_PATHS.some(isBelow) && path !== "/run") return null;
  const layer = layers.filter((candidate) => isBelow(candidate.path)).at(-1);
  if (layer === undefined || layer.path === path) return null;
  const onHost = join(layer.sourcePath, path.slice(layer.path === "/" ? 0 : layer.path.length));
  return (await isLink(onHost)) ? await readlink(onHost) : null;
}

function requireAllowed(wanted: string, target: string): void {
  if (target === "/") throw refusal(wanted, "links on the way lead to the root directory");
  const reserved = reservedPathOf(target);
  if (reserved !== null)
    throw refusal(wanted, `links on the way lead to ${reserved}, which belongs to the sandbox itself`);
}

function refusal(path: string, reason: string): CaissonError {
  return new CaissonError(
    "INVALID_CONFIG",
    `Cannot mount a volume at ${JSON.stringify(path)}: ${reason}. Remove the links, or mount it elsewhere`,
  );
}
