import { lstat, readlink, statfs } from "node:fs/promises";
import { join } from "node:path";
import { hasErrorCode } from "@caisson/linux";
import { CaissonError, reservedPathOf } from "@caisson/model";
import type { MountSpec, RootSpec } from "../../runtime.ts";

/** As many as the kernel follows (path_resolution(7)). */
const LINKS_MAX = 40;
/** Memory of the sandbox's own, empty at the start, whatever the root has there. */
const EMPTY_PATHS: readonly string[] = ["/run"];

/** What a directory takes of a file system that has to make it. */
const DIRECTORY_BYTES = 4096;
const ELSEWHERE = "or mount it elsewhere";

/** What is mounted at a path of the sandbox, as seen from the host. */
interface Layer {
  readonly path: string;
  readonly sourcePath: string;
  readonly isReadOnly: boolean;
  /** New directories go to an empty scratch disk. */
  readonly isEphemeral: boolean;
}

/** What stands at a path whose parents are no links. `made`: nothing yet, and the start makes a directory there. */
type Found =
  | { readonly kind: "directory" | "made" }
  | { readonly kind: "absent"; readonly layer: Layer }
  | { readonly kind: "link"; readonly text: string }
  | { readonly kind: "other"; readonly name: string };

/** A part of a path that is still to be followed; `link`: the one whose text it comes from. */
interface Part {
  readonly name: string;
  readonly link: string | null;
}

interface Target {
  readonly path: string;
  /** Where directories must be made on the way, one entry for each. */
  readonly absent: readonly Layer[];
  /** Why nothing can be mounted there; null: it can. */
  readonly problem: string | null;
}

/**
 * The mounts of a sandbox with the links in their targets followed, in the root and in the volumes mounted before. An earlier sandbox may have planted
 * such links; a volume that they lead over the root, or over what belongs to the sandbox itself, would put programs of its own in the place of
 * the first process. Such a target is `INVALID_CONFIG`, and so is one where no directory is or can be made. Nothing that a link names is opened on
 * the host. `rootPath` shows the content of a root of this kind.
 */
export async function resolveTargets(
  rootPath: string,
  kind: RootSpec["kind"],
  mounts: readonly MountSpec[],
): Promise<readonly MountSpec[]> {
  const layers: Layer[] = [{ path: "/", sourcePath: rootPath, isReadOnly: false, isEphemeral: kind === "ephemeral" }];
  const resolved: MountSpec[] = [];
  for (const mount of mounts) {
    const target = await followLinks(mount.targetPath, layers);
    requireAllowed(mount.targetPath, target.path);
    if (target.problem !== null) throw refusal(mount.targetPath, target.problem);
    await requireRoom(mount.targetPath, target.absent);
    layers.push({ path: target.path, sourcePath: mount.sourcePath, isReadOnly: mount.isReadOnly, isEphemeral: false });
    resolved.push({ ...mount, targetPath: target.path });
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

async function followLinks(path: string, layers: readonly Layer[]): Promise<Target> {
  const partsOf = (text: string, link: string | null): Part[] => text.split("/").map((name) => ({ name, link }));
  const rest = partsOf(path, null);
  const done: string[] = [];
  const absent: Layer[] = [];
  let problem: string | null = null;
  for (let links = 0, part = rest.shift(); part !== undefined; part = rest.shift()) {
    const { name, link } = part;
    if (name === "" || name === ".") continue;
    if (name === "..") {
      done.pop();
      continue;
    }
    const here = `/${[...done, name].join("/")}`;
    const found = await look(here, layers);
    if (found.kind === "link") {
      links += 1;
      if (links > LINKS_MAX) throw refusal(path, `it leads through too many links. Remove them, ${ELSEWHERE}`);
      if (found.text.startsWith("/")) done.length = 0;
      rest.unshift(...partsOf(found.text, here));
      continue;
    }
    done.push(name);
    if (found.kind === "other") problem ??= `${here} is ${found.name}, not a directory. Remove it, ${ELSEWHERE}`;
    if (found.kind !== "absent") continue;
    absent.push(found.layer);
    if (link !== null) problem ??= `the link ${link} leads to ${here}, where nothing is. Remove the link, ${ELSEWHERE}`;
    else if (found.layer.isReadOnly) problem ??= `there is no ${here}, and its volume is mounted read-only. ${MAKE_IT}`;
  }
  return { path: `/${done.join("/")}`, absent, problem };
}

const MAKE_IT = "Make the directory in a sandbox that can write to the volume";

async function look(path: string, layers: readonly Layer[]): Promise<Found> {
  const isBelow = (directory: string): boolean =>
    directory === "/" || path === directory || path.startsWith(`${directory}/`);
  const layer = layers.filter((candidate) => isBelow(candidate.path)).at(-1);
  if (layer === undefined || layer.path === path) return { kind: "directory" };
  if (layer.path === "/" && EMPTY_PATHS.some(isBelow)) return { kind: "made" };
  const onHost = join(layer.sourcePath, path.slice(layer.path === "/" ? 0 : layer.path.length));
  try {
    const info = await lstat(onHost);
    if (info.isSymbolicLink()) return { kind: "link", text: await readlink(onHost) };
    if (info.isDirectory()) return { kind: "directory" };
    return { kind: "other", name: info.isFile() ? "a file" : "a special file" };
  } catch (error) {
    if (hasErrorCode(error, "ENOENT", "ENOTDIR")) return { kind: "absent", layer };
    throw error;
  }
}

/** Throws where the directories that are missing on the way to a target have no room in the file system that they belong in. */
async function requireRoom(wanted: string, absent: readonly Layer[]): Promise<void> {
  for (const layer of new Set(absent.filter(({ isEphemeral }) => !isEphemeral))) {
    const count = absent.filter((other) => other === layer).length;
    const { bavail, bsize, ffree } = await statfs(layer.sourcePath);
    if (ffree >= count && bavail * bsize >= count * DIRECTORY_BYTES) continue;
    const where = layer.path === "/" ? "root" : `volume at ${layer.path}`;
    throw refusal(
      wanted,
      `there is no such directory, and no room for one: the ${where} is full. Delete files there, or mount it at a directory that exists`,
    );
  }
}

function requireAllowed(wanted: string, target: string): void {
  const remedy = `Remove the links, ${ELSEWHERE}`;
  if (target === "/") throw refusal(wanted, `links on the way lead to the root directory. ${remedy}`);
  const reserved = reservedPathOf(target);
  if (reserved !== null)
    throw refusal(wanted, `links on the way lead to ${reserved}, which belongs to the sandbox itself. ${remedy}`);
}

/** `reason` ends with what to do. */
function refusal(path: string, reason: string): CaissonError {
  return new CaissonError("INVALID_CONFIG", `Cannot mount a volume at ${JSON.stringify(path)}: ${reason}`);
}
