import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { type Cgroups, cgroupProcesses, hasErrorCode } from "@caisson/linux";
import type { ContainerProcess } from "./container-process.ts";

/** How long the kernel may take, at least, to end processes on a host that starts sandboxes as quickly as hosts do. */
export const KILL_TIMEOUT_MS = 10_000;
const POLL_MS = 2;

export interface ContainerOptions {
  /** The OCI runtime in the foreground: it lives as long as the container and reaps its first process. */
  readonly containerProcess: ContainerProcess;
  readonly id: string;
  /** The runtime writes the id of the first process there. */
  readonly pidPath: string;
  readonly cgroups: Cgroups;
  readonly cgroupPath: string;
  readonly killTimeoutMs: number;
}

/**
 * Kills all processes of a container and waits until they are gone. With the first process of the PID namespace the kernel kills all others,
 * and the runtime then tidies up and ends. Before there is a first process, the runtime itself is what there is to kill.
 */
export async function killContainer(options: ContainerOptions): Promise<void> {
  const { containerProcess, id, pidPath, cgroups, cgroupPath, killTimeoutMs } = options;
  const deadline = Date.now() + killTimeoutMs;
  while (!containerProcess.hasExited) {
    if (Date.now() > deadline) throw new Error(`Cannot end sandbox ${id}: processes of it survive SIGKILL`);
    const first = Number(await readFile(pidPath, "utf8").catch(() => ""));
    if (containerProcess.hasExited) break;
    for (const pid of first > 0 ? [first] : [...(await cgroupProcesses(cgroups, cgroupPath)), containerProcess.pid])
      killProcess(pid);
    await Promise.race([containerProcess.exited, new Promise((resolve) => setTimeout(resolve, POLL_MS))]);
  }
  // Killed while it started, the runtime could not look after what it had begun.
  await killCgroup(cgroups, cgroupPath, killTimeoutMs);
}

/** The id of the first process. Waits for it: runc writes it down after it has started the container, whose agent may be ready by then. */
export async function readFirstPid(pidPath: string, signal: AbortSignal): Promise<number> {
  for (;;) {
    const pid = Number(await readFile(pidPath, "utf8").catch(() => ""));
    if (pid > 0) return pid;
    await delay(POLL_MS, undefined, { signal });
  }
}

/** Kills every process in the cgroup and waits until it is empty. Throws when it is not in time. */
export async function killCgroup(cgroups: Cgroups, cgroupPath: string, timeoutMs: number): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const pids = await cgroupProcesses(cgroups, cgroupPath);
    if (pids.length === 0) return;
    if (Date.now() > deadline)
      throw new Error(`Cannot end cgroup ${cgroupPath}: processes ${pids.join(", ")} survive SIGKILL`);
    for (const pid of pids) killProcess(pid);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function killProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (!hasErrorCode(error, "ESRCH")) throw error;
  }
}
