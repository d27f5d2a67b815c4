import { closeDescriptor, OPEN, openDescriptor, rawCalls, readEntries } from "./libc.ts";
import { isRaw } from "./raw-name.ts";

/** Runs `use` with a path that Deno's calls can carry: the path itself, or for a raw one the way through a descriptor of what it leads to. */
export async function reach<T>(path: string, use: (path: string) => Promise<T>): Promise<T> {
  return isRaw(path) ? await through(openDescriptor(path, OPEN.path), use) : await use(path);
}

async function through<T>(descriptor: number, use: (path: string) => Promise<T>): Promise<T> {
  try {
    return await use(`/proc/self/fd/${descriptor}`);
  } finally {
    closeDescriptor(descriptor);
  }
}

export interface Creation {
  readonly create?: boolean;
  readonly createNew?: boolean;
  readonly mode?: number;
}

/** The same for a file that may have to be made; `use` gets the options that are left for it. */
export async function reachOrCreate<T>(
  path: string,
  options: Creation,
  use: (path: string, options: Creation) => Promise<T>,
): Promise<T> {
  if (!isRaw(path)) return await use(path, options);
  const { create = false, createNew = false, mode } = options;
  const made = OPEN.create | OPEN.writing | OPEN.nonBlocking | (createNew ? OPEN.exclusive : 0);
  return await through(openOrCreate(path, create || createNew ? made : null, createNew, mode), (reached) =>
    use(reached, mode === undefined ? {} : { mode }),
  );
}

function openOrCreate(path: string, made: number | null, isNew: boolean, mode: number | undefined): number {
  if (isNew && made !== null) return openDescriptor(path, made, mode);
  try {
    return openDescriptor(path, OPEN.path);
  } catch (error) {
    if (made === null || !(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    return openDescriptor(path, made, mode);
  }
}

/** As `Deno.lstat`. */
export async function lstat(path: string): Promise<Deno.FileInfo> {
  if (!isRaw(path)) return await Deno.lstat(path);
  // The way through the descriptor of a link ends at the link.
  return await through(openDescriptor(path, OPEN.path | OPEN.noFollow), (reached) => Deno.stat(reached));
}

/** As `Deno.readLink`, of links whose text is raw too. */
export async function readLink(path: string): Promise<string> {
  return isRaw(path) ? rawCalls.readLink(path) : await orRaw(Deno.readLink(path), () => rawCalls.readLink(path));
}

/** As `Deno.realPath`. */
export async function realPath(path: string): Promise<string> {
  const raw = () => through(openDescriptor(path, OPEN.path), async (reached) => rawCalls.readLink(reached));
  return isRaw(path) ? await raw() : await orRaw(Deno.realPath(path), raw);
}

/** Deno says so when what it found is no text. */
async function orRaw(result: Promise<string>, raw: () => string | Promise<string>): Promise<string> {
  try {
    return await result;
  } catch (error) {
    if (error instanceof Deno.errors.InvalidData) return await raw();
    throw error;
  }
}

/** As `Deno.readDir`. With `escapeNames` raw names can be told and used, without it they have U+FFFD, as Deno reads them. */
export async function* readDir(path: string, escapeNames: boolean): AsyncGenerator<Deno.DirEntry> {
  if (!escapeNames) {
    yield* Deno.readDir(path);
    return;
  }
  const entries = isRaw(path) ? null : await Array.fromAsync(Deno.readDir(path));
  yield* entries === null || entries.some(({ name }) => name.includes("\ufffd")) ? readEntries(path) : entries;
}

/** As `Deno.remove` of a file or an empty directory. */
export async function remove(path: string): Promise<void> {
  if (!isRaw(path)) return await Deno.remove(path);
  const { isDirectory } = await lstat(path);
  if (isDirectory) rawCalls.rmdir(path);
  else rawCalls.unlink(path);
}

/** As `Deno.mkdir`. */
export async function mkdir(
  path: string,
  options: { readonly recursive: boolean; readonly mode: number },
): Promise<void> {
  if (!isRaw(path)) return await Deno.mkdir(path, options);
  if (!options.recursive) return rawCalls.mkdir(path, options.mode);
  const names = path.split("/");
  for (const [index, name] of names.entries()) {
    if (name === "") continue;
    const parent = names.slice(0, index + 1).join("/");
    try {
      rawCalls.mkdir(parent, options.mode);
    } catch (error) {
      const isThere = await reach(parent, Deno.stat).then(
        (info) => info.isDirectory,
        () => false,
      );
      if (!isThere) throw error;
    }
  }
}

export async function rename(from: string, to: string): Promise<void> {
  if (isRaw(from) || isRaw(to)) rawCalls.rename(from, to);
  else await Deno.rename(from, to);
}

export async function link(target: string, path: string): Promise<void> {
  if (isRaw(target) || isRaw(path)) rawCalls.link(target, path);
  else await Deno.link(target, path);
}

export async function symlink(text: string, path: string): Promise<void> {
  if (isRaw(text) || isRaw(path)) rawCalls.symlink(text, path);
  else await Deno.symlink(text, path);
}
