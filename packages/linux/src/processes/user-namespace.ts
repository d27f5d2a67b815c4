import { once } from "node:events";
import { type FileHandle, open, writeFile } from "node:fs/promises";
import { passFaultPoint } from "../calls/ffi.ts";
import { type SpawnedProgram, spawnProgram } from "./spawn-program.ts";

/** A block of ids: those from 0 inside stand for those from `firstHostId` outside. */
export interface IdRange {
  readonly firstHostId: number;
  readonly count: number;
}

/** Ids inside from `firstId` on stand for those outside from `firstHostId` on. */
export interface IdMapping extends IdRange {
  readonly firstId: number;
}

/** A process that does nothing but keep new namespaces alive until descriptors of them are open. */
export interface NamespaceHolder extends AsyncDisposable {
  readonly pid: number;
}

/**
 * Starts a process in a user namespace of its own with these ids for users and groups, and in a network namespace that belongs to it. A thread of this process
 * could not do that: the kernel lets only single-threaded processes make user namespaces.
 *
 * The namespace belongs to the user of the host that its root is, and not to this process's. Whatever the kernel counts for each user (inotify
 * instances and watches, timers and signals that wait, bytes in message queues, locked memory) it counts for the namespace's owner too, so one owner for all
 * would let one sandbox use up what the others and the server have.
 */
export async function holdNewNamespaces(mappings: readonly IdMapping[]): Promise<NamespaceHolder> {
  const map = mappings.map(({ firstId, firstHostId, count }) => `${firstId} ${firstHostId} ${count}\n`).join("");
  await passFaultPoint({
    name: "unshare",
    detail: `user and network namespaces with ids ${map.replaceAll("\n", ";")}`,
  });
  const owner = String(mappings.find(({ firstId }) => firstId === 0)?.firstHostId ?? 0);
  // The capability is kept, because some hosts let only privileged users make user namespaces.
  const capability = ["--inh-caps", "+sys_admin", "--ambient-caps", "+sys_admin"];
  const asOwner = ["--reuid", owner, "--regid", owner, "--clear-groups", ...capability];
  const command = ["unshare", "--user", "--net", "--", "sh", "-c", "echo && read _"];
  const program = spawnProgram("setpriv", [...asOwner, ...command], { input: "pipe", output: "pipe" });
  const holder = {
    pid: program.pid,
    async [Symbol.asyncDispose](): Promise<void> {
      program.kill("SIGKILL");
      await program.ended;
      for (const pipe of [program.stdin, program.stdout, program.stderr]) pipe?.destroy();
    },
  };
  try {
    await untilReady(program);
    // Written from outside, where the ids to be mapped are this process's own to give.
    for (const file of ["uid_map", "gid_map"]) await writeFile(`/proc/${holder.pid}/${file}`, map);
    return holder;
  } catch (error) {
    await holder[Symbol.asyncDispose]();
    throw error;
  }
}

/** Opens a namespace of a process. It stays alive as long as the descriptor, whatever becomes of the process. */
export async function openNamespace(pid: number, type: "user" | "net" | "mnt" | "pid" | "uts"): Promise<FileHandle> {
  return open(`/proc/${pid}/ns/${type}`, "r");
}

async function untilReady({ stdout, stderr, ended }: SpawnedProgram): Promise<void> {
  if (stdout === null || stderr === null) throw new Error("Cannot make a user namespace: unshare has no pipes");
  let errorText = "";
  const errors = once(stderr.setEncoding("utf8"), "close");
  stderr.on("data", (text: string) => {
    errorText += text;
  });
  const failed = Promise.all([ended, errors]).then(([{ exitCode }]) => {
    throw new Error(`Cannot make a user namespace: unshare ended with code ${exitCode}: ${errorText.trim()}`);
  });
  await Promise.race([once(stdout, "data"), failed]);
  // The loser of the race may still reject later, when the holder is ended on purpose.
  failed.catch(() => undefined);
}
