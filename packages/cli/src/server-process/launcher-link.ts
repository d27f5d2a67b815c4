import { realpathSync } from "node:fs";
import { lstat, readlink, realpath, symlink, unlink } from "node:fs/promises";
import { join, resolve } from "node:path";
import { asCalled } from "../called-as.ts";
import { CliError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import { PATHS } from "./paths.ts";

const NAME = "caisson";

/** Where programs that an administrator adds stand, on the PATH of everybody. */
export const DEFAULT_LINK_DIRECTORY = "/usr/local/bin";

/** How to get it there, for those who do not have it on the PATH. */
export const LINK_OFFER = asCalled("`caisson` is not on your PATH. To put it there: caisson link");

/** Makes the link; `isNew` is false when it was there. Never replaces anything. */
export async function linkLauncher(directory: string): Promise<{ readonly path: string; readonly isNew: boolean }> {
  const path = join(resolve(directory), NAME);
  try {
    await symlink(PATHS.launcher, path);
    return { path, isNew: true };
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw notWritable(path, error);
  }
  if (await isOurs(path)) return { path, isNew: false };
  throw await foreign(path, "Choose another directory on the PATH with --directory, or remove what is there.");
}

/** Removes the link; `isRemoved` is false when there was none. Never removes anything else. */
export async function unlinkLauncher(
  directory: string,
): Promise<{ readonly path: string; readonly isRemoved: boolean }> {
  const path = join(resolve(directory), NAME);
  const isAbsent = await lstat(path).then(
    () => false,
    (error: unknown) => codeOf(error) === "ENOENT",
  );
  if (isAbsent) return { path, isRemoved: false };
  if (!(await isOurs(path))) throw await foreign(path, "It was left alone.");
  await unlink(path).catch((error: unknown) => {
    throw notWritable(path, error);
  });
  return { path, isRemoved: true };
}

/** Whether the bare name finds this launcher. */
export function isOnPath(): boolean {
  const directories = (process.env.PATH ?? "").split(":").filter(Boolean);
  return directories.some((directory) => {
    try {
      return realpathSync(join(directory, NAME)) === PATHS.launcher;
    } catch {
      return false;
    }
  });
}

/** A link that leads to this launcher, and not a copy or another program. */
async function isOurs(path: string): Promise<boolean> {
  const isLink = await lstat(path).then(
    (info) => info.isSymbolicLink(),
    () => false,
  );
  return isLink && (await realpath(path).catch(() => null)) === PATHS.launcher;
}

async function foreign(path: string, hint: string): Promise<CliError> {
  const target = await readlink(path).catch(() => null);
  const what = target === null ? "" : `, a link to ${target}`;
  return new CliError("EEXIST", EXIT.conflict, `${path} is something else${what}`, hint);
}

function notWritable(path: string, error: unknown): unknown {
  const code = codeOf(error);
  const hint = "Run the command with sudo, or name another directory on the PATH: --directory ~/.local/bin";
  if (code === "EACCES" || code === "EPERM" || code === "EROFS")
    return new CliError("NOT_ALLOWED", EXIT.authentication, `Cannot change ${path}: permission denied`, hint);
  if (code === "ENOENT" || code === "ENOTDIR")
    return new CliError("ENOENT", EXIT.notFound, `Cannot make ${path}: there is no such directory`);
  return error;
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
