import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runTool } from "@caisson/linux";

const DIRECTORIES = 100;
const FILES_PER_DIRECTORY = 60;
export const FILE_COUNT = DIRECTORIES * FILES_PER_DIRECTORY;

export interface FileTree {
  readonly repository: string;
  readonly archive: string;
}

/** A tree of many small files, as a git repository and as a tar archive, below `directory`. */
export async function makeFileTree(directory: string): Promise<FileTree> {
  const [repository, archive] = [join(directory, "repository"), join(directory, "tree.tar")];
  for (let number = 0; number < DIRECTORIES; number += 1) {
    const path = join(repository, `directory-${number}`);
    await mkdir(path, { recursive: true });
    await Promise.all(
      Array.from({ length: FILES_PER_DIRECTORY }, (_, index) =>
        writeFile(
          join(path, `file-${index}.txt`),
          `line of file ${number} ${index}\n`.repeat(20 + ((index * 37) % 400)),
        ),
      ),
    );
  }
  const git = (...args: string[]) =>
    runTool("git", ["-C", repository, "-c", "user.name=bench", "-c", "user.email=bench@localhost", ...args]);
  await git("init", "-q");
  await git("add", ".");
  await git("commit", "-q", "-m", "tree");
  await runTool("tar", ["-C", repository, "--exclude=.git", "-cf", archive, "."]);
  return { repository, archive };
}

/** Files a second, on stable storage at the end. */
export async function cloneRepository({ repository }: FileTree, path: string): Promise<number> {
  return filesPerSecond(join(path, "clone"), (target) =>
    runTool("git", ["clone", "-q", "--no-local", repository, target]),
  );
}

/** Files a second, on stable storage at the end. */
export async function unpackArchive({ archive }: FileTree, path: string): Promise<number> {
  return filesPerSecond(join(path, "unpacked"), async (target) => {
    await mkdir(target);
    await runTool("tar", ["-C", target, "-xf", archive]);
  });
}

async function filesPerSecond(target: string, work: (target: string) => Promise<unknown>): Promise<number> {
  await rm(target, { recursive: true, force: true });
  const startedMs = performance.now();
  await work(target);
  await runTool("sync", ["-f", target]);
  return FILE_COUNT / ((performance.now() - startedMs) / 1000);
}
