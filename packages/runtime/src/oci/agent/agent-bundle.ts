import { createHash } from "node:crypto";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rename, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { createFileSystemMount, hasErrorCode, moveMount, readMounts, runTool, unmount } from "@caisson/linux";
import { openLayer } from "../root/layer.ts";

/** Where the bundle is mounted inside, read-only, and below it the directory where the agent may write its socket and its log. */
export const AGENT_TARGET = "/.caisson";
export const AGENT_RUN_TARGET = `${AGENT_TARGET}/run`;

export interface AgentSources {
  /** The agent, bundled to one file. */
  readonly agentPath: string;
  readonly denoPath: string;
  /** A static init that forwards signals and reaps orphans. */
  readonly tiniPath: string;
}

/** A directory with all that the agent needs, whatever the root contains. */
export interface AgentBundle {
  readonly directory: string;
  readonly denoPath: string;
  /** The first process of a sandbox, by its paths inside. */
  readonly command: readonly string[];
}

/** The bundle as sandboxes get it. Disposing it unmounts it. */
export interface MountedAgentBundle extends AgentBundle, AsyncDisposable {}

/**
 * Flags of the agent's own Deno: no look at the network, at a configuration, a lock file or packages. `--allow-all` because it is the
 * sandbox, not Deno, that confines.
 */
const DENO_FLAGS = [
  "run",
  "--quiet",
  "--allow-all",
  "--no-config",
  "--no-lock",
  "--no-remote",
  "--no-npm",
  "--no-prompt",
];

/**
 * Makes (or finds) the bundle below `directory`, under a name made from its content. Deno is started through a copy of the dynamic linker with
 * copies of its libraries, so that a root without them, or with broken ones, still boots.
 */
export async function ensureAgentBundle(directory: string, sources: AgentSources): Promise<AgentBundle> {
  const libraries = await listLibraries(sources.denoPath);
  const linker = libraries.find((path) => basename(path).startsWith("ld-linux"));
  if (linker === undefined) throw new Error(`Cannot prepare the agent: ${sources.denoPath} names no dynamic linker`);
  const bundle = join(directory, `agent-${await contentKey(sources, libraries)}`);
  if (!(await exists(bundle))) await makeAgentBundle(directory, bundle, sources, libraries);
  return {
    directory: bundle,
    denoPath: join(bundle, "bin/deno"),
    command: [
      `${AGENT_TARGET}/bin/tini`,
      "--",
      `${AGENT_TARGET}/lib/${basename(linker)}`,
      "--library-path",
      `${AGENT_TARGET}/lib`,
      `${AGENT_TARGET}/bin/deno`,
      ...DENO_FLAGS,
      `${AGENT_TARGET}/agent.js`,
    ],
  };
}

/**
 * Mounts the bundle at `target` as the top of a file system, because a sandbox sees the path of a mounted
 * directory on its file system and must not learn paths of the host. An overlay of two layers, the second one empty, is such a file system and shares its
 * files' memory with the bundle below.
 */
export async function mountAgentBundle(
  bundle: AgentBundle,
  target: string,
  emptyDirectory: string,
): Promise<MountedAgentBundle> {
  for (const path of [target, emptyDirectory]) await mkdir(path, { recursive: true, mode: 0o711 });
  // Left by a server that was killed without namespaces of its own.
  if ((await readMounts()).some((mount) => mount.target === target)) await unmount(target);
  await using layers = new AsyncDisposableStack();
  const names = await Promise.all([bundle.directory, emptyDirectory].map((path) => openLayer(path, layers)));
  await using overlay = await createFileSystemMount(
    { type: "overlay", source: "caisson", options: { lowerdir: names.join(":") } },
    { isReadOnly: true, noDev: true, noSuid: true },
  );
  await moveMount(overlay, target);
  return {
    directory: target,
    denoPath: join(target, "bin/deno"),
    command: bundle.command,
    [Symbol.asyncDispose]: () => unmount(target),
  };
}

async function makeAgentBundle(
  directory: string,
  bundle: string,
  sources: AgentSources,
  libraries: readonly string[],
): Promise<void> {
  const work = await mkdtemp(join(directory, ".agent-"));
  try {
    for (const name of ["bin", "lib", "run", "deno"]) await mkdir(join(work, name), { mode: 0o755 });
    await copyFile(sources.agentPath, join(work, "agent.js"));
    await copyExecutable(sources.denoPath, join(work, "bin/deno"));
    await copyExecutable(sources.tiniPath, join(work, "bin/tini"));
    for (const path of libraries) await copyExecutable(path, join(work, "lib", basename(path)));
    await chmod(join(work, "agent.js"), 0o644);
    await chmod(work, 0o755);
    await rename(work, bundle);
  } catch (error) {
    await rm(work, { recursive: true, force: true });
    // Another server with the same directory was faster; its bundle has the same content.
    if (!hasErrorCode(error, "ENOTEMPTY", "EEXIST")) throw error;
  }
}

async function copyExecutable(source: string, target: string): Promise<void> {
  await copyFile(source, target);
  await chmod(target, 0o755);
}

/** Absolute paths of the shared libraries, the dynamic linker among them, as ldd(1) resolves them. */
async function listLibraries(program: string): Promise<readonly string[]> {
  const output = await runTool("ldd", [program]);
  return [...output.matchAll(/^\s*(?:\S+ => )?(\/\S+) \(0x/gm)].map(([, path = ""]) => path);
}

/** Large files count by size and time of change, which is what tells versions of an installed program apart. */
async function contentKey(sources: AgentSources, libraries: readonly string[]): Promise<string> {
  const hash = createHash("sha256")
    .update(JSON.stringify(DENO_FLAGS))
    .update(await readFile(sources.agentPath));
  for (const path of [sources.denoPath, sources.tiniPath, ...libraries]) {
    const { size, mtimeMs } = await stat(path);
    hash.update(`${basename(path)} ${size} ${mtimeMs}\n`);
  }
  return hash.digest("hex").slice(0, 24);
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return false;
    throw error;
  }
}
