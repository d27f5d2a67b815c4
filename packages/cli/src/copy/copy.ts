import { lstat, unlink } from "node:fs/promises";
import { posix } from "node:path";
import type { Sandbox, SkippedFile, TransferOptions } from "@caisson/sdk";
import { CliError, usageError } from "../cli-error.ts";
import { EXIT } from "../exit-codes.ts";
import type { Location } from "./location.ts";
import { type Kind, localSide, type Side, sandboxSide } from "./side.ts";

/** The file system that a copy reads or writes: this machine's, or a sandbox's. */
export interface FileSystem {
  readonly side: Side;
  /** `null`: this machine. */
  readonly sandbox: Sandbox | null;
}

/** A file or directory to copy. */
interface Source {
  readonly source: FileSystem;
  /** Absolute; of a directory, where it really is, because its copy is first made under that name. */
  readonly path: string;
  /** The name that it was found by. */
  readonly name: string;
  readonly kind: "file" | "directory";
}

/** One file or directory to copy, with everything about where it goes settled. */
export interface Transfer extends Source {
  /** The name of the copy, absolute. */
  readonly copy: string;
  /** Whether that name was chosen by the source, and not by who typed the command. */
  readonly isInto: boolean;
}

export function fileSystemOf(sandbox: Sandbox | null): FileSystem {
  return { side: sandbox === null ? localSide : sandboxSide(sandbox), sandbox };
}

/**
 * Settles what is copied to where, by the rules of `cp -r`: into the target when that is a directory, ends with a slash or is to hold
 * several; else under the target's own name. What a glob finds and nobody can copy is skipped, as in a directory. Throws before anything was
 * changed.
 */
export async function planTransfers(
  sources: readonly { readonly fileSystem: FileSystem; readonly location: Location }[],
  target: FileSystem,
  targetPath: string,
  onSkip: (skipped: SkippedFile) => void,
): Promise<Transfer[]> {
  const found: Source[] = [];
  for (const { fileSystem, location } of sources) {
    const paths = await fileSystem.side.expand(location.path);
    if (paths.length === 0) throw absent(location, "Nothing matches");
    for (const path of paths) {
      // What was named itself, and not found by a glob, must be there.
      const skipped = path === location.path ? null : skippedOf(path, await fileSystem.side.kindOf(path));
      if (skipped === null) found.push(await lookUp(fileSystem, path, location));
      else onSkip(skipped);
    }
  }
  const resolved = await target.side.resolve(targetPath);
  const kind = await target.side.kindOf(resolved);
  const isInto = kind === "directory" || targetPath.endsWith("/");
  if (found.length > 1 && !isInto) {
    throw usageError(
      `Cannot copy ${found.length} things to ${targetPath}: it is not a directory`,
      `If it is to be one, write ${targetPath}/`,
    );
  }
  if (isInto && kind !== "directory" && kind !== "absent")
    throw usageError(`Cannot copy into ${targetPath}: it is not a directory`);
  const [first] = found;
  if (!isInto && kind === "file" && first?.kind === "directory") {
    throw usageError(`Cannot copy the directory ${first.path} over the file ${targetPath}`);
  }
  return found.map((item) => ({
    ...item,
    isInto,
    copy: isInto ? posix.join(resolved, item.name) : resolved,
  }));
}

/** Copies one file or directory. A directory that gets a new name appears under it when it is complete. */
export async function transfer(item: Transfer, target: FileSystem, options: TransferOptions): Promise<void> {
  const { source, path, kind, copy } = item;
  const parent = posix.dirname(copy);
  await target.side.makeDirectory(parent);
  // A sandbox may have left a link under this name by an earlier copy; what it leads to is not the sandbox's to write.
  if (kind === "file" && item.isInto && target.sandbox === null) await removeLink(copy);
  if (kind === "file") return await send(source, path, target, copy, options);
  if (posix.basename(path) === posix.basename(copy)) return await send(source, path, target, parent, options);
  // Directories are copied under their own name, so a copy of another name is made aside and then renamed.
  const temporary = await target.side.makeTemporary(parent);
  try {
    await send(source, path, target, temporary, options);
    await target.side.rename(posix.join(temporary, posix.basename(path)), copy);
  } finally {
    await target.side.remove(temporary);
  }
}

/** A file becomes `to`; a directory goes into the directory `to`, under its own name. */
async function send(
  source: FileSystem,
  path: string,
  target: FileSystem,
  to: string,
  options: TransferOptions,
): Promise<void> {
  if (source.sandbox === null) {
    if (target.sandbox === null) throw new TypeError("Both sides are local");
    return await target.sandbox.fs.upload(path, to, options);
  }
  if (target.sandbox === null) return await source.sandbox.fs.download(path, to, options);
  if (source.sandbox === target.sandbox) return await copyInside(source.sandbox, source.side, path, to, options);
  await source.sandbox.fs.copyTo(path, target.sandbox.fs, to, options);
}

async function removeLink(path: string): Promise<void> {
  const info = await lstat(path).catch(() => null);
  if (info?.isSymbolicLink()) await unlink(path);
}

/** Within one sandbox nothing needs to leave it. */
async function copyInside(
  sandbox: Sandbox,
  side: Side,
  path: string,
  to: string,
  options: TransferOptions,
): Promise<void> {
  const args = ["-a", "--", path, to];
  const cp = await sandbox.spawn("cp", {
    args,
    stdout: "null",
    stderr: "piped",
    ...(options.signal && { signal: options.signal }),
  });
  const { status, stderrText } = await cp.output();
  if (!status.success)
    throw new CliError("COPY_FAILED", EXIT.failure, `Cannot copy inside the sandbox: ${stderrText?.trim()}`);
  const amount = await side.measure(path);
  if (amount !== null) options.onProgress?.({ path, transferredBytes: amount.bytes, completedFiles: amount.files });
}

/** Finds what is to be copied. Throws when that is not there, or nothing that can be. */
export async function lookUp(fileSystem: FileSystem, path: string, location: Location): Promise<Source> {
  const absolute = await fileSystem.side.resolve(path);
  const kind = await fileSystem.side.kindOf(absolute);
  if (kind === "absent") throw absent(location, "There is no");
  if (kind !== "file" && kind !== "directory")
    throw usageError(`Cannot copy ${path}: it is neither a file nor a directory`);
  if (absolute === "/") throw usageError("Cannot copy the root of all files", "Name a directory below it.");
  const real = kind === "directory" ? await fileSystem.side.realPath(absolute) : absolute;
  return { source: fileSystem, path: real, name: posix.basename(absolute), kind };
}

/** What is skipped of a glob's finds, and why; `null` for what can be copied. */
function skippedOf(path: string, kind: Kind): SkippedFile | null {
  if (kind === "file" || kind === "directory") return null;
  const skipped = (reason: SkippedFile["reason"], why: string): SkippedFile => ({
    ...{ path, reason },
    message: `Skipped ${JSON.stringify(path)}: ${why}`,
  });
  if (kind === "absent") return skipped("gone", "it vanished, or is a link that leads nowhere");
  return skipped(kind, kind === "pipe" ? "it is a named pipe" : `it is a ${kind}`);
}

function absent({ sandboxId, path }: Location, problem: string): CliError {
  const where = sandboxId === null ? "on this machine" : `in sandbox ${sandboxId}`;
  return new CliError("ENOENT", EXIT.notFound, `${problem} ${JSON.stringify(path)} ${where}`);
}
