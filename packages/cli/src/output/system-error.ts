/** What the system says about files of this machine, in our words, with what to do. */
const PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: "it does not exist. Check how it is written",
  ENOTDIR: "a part of it is not a directory. Check how it is written",
  EISDIR: "it is a directory. Name a file",
  EACCES: "permission denied. Take another path, or run the command as a user who may",
  EPERM: "permission denied. Take another path, or run the command as a user who may",
  EROFS: "the file system is read-only. Take another path",
  ENOSPC: "the disk is full. Make room there, or take another one",
  EDQUOT: "the quota of the disk is used up. Make room there, or take another one",
  EFBIG: "a file cannot be that large there. Take another path",
  ENAMETOOLONG: "the name is too long. Take a shorter one",
  ELOOP: "its links lead in a circle. Name what they should lead to",
  EMFILE: "too many files are open. Raise the limit: ulimit -n",
  EIO: "the disk failed. Look at the system's log: dmesg",
};

/** What went wrong with a file of this machine, for behind a colon; `undefined` when that is none of the usual things. */
export function problemOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error ? PROBLEMS[String(error.code)] : undefined;
}

/** The whole sentence about a failed call of the system that names a file; `undefined` for anything else. */
export function describeSystemError(error: Error): string | undefined {
  if (!("syscall" in error && "path" in error)) return undefined;
  const problem = problemOf(error);
  return problem === undefined ? undefined : `Cannot use ${String(error.path)}: ${problem}`;
}
