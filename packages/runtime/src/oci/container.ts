import { type ChildProcess, spawn } from "node:child_process";
import { type FileHandle, readFile } from "node:fs/promises";
import { type Cgroups, cgroupProcesses, faultPoint, hasErrorCode } from "@caisson/linux";

const KILL_DEADLINE_MS = 10_000;
const POLL_MS = 5;

export interface ContainerOptions {
  /** `crun` or `runc`, or a path to one. */
  readonly runtimePath: string;
  /** Where the OCI runtime keeps its own state. */
  readonly stateDirectory: string;
  readonly id: string;
  readonly bundlePath: string;
  /** The runtime writes the id of the first process there. */
  readonly pidPath: string;
  readonly cgroupPath: string;
  readonly cgroups: Cgroups;
  /** Receives what the runtime and the agent print. */
  readonly log: FileHandle;
}

/**
 * One container, run by an OCI runtime in the foreground: that process lives as long as the container, reaps its first process, removes the
 * cgroup, and its end is the end of the container.
 */
export class Container {
  readonly #options: ContainerOptions;
  readonly #child: ChildProcess;
  /** Resolves when the runtime's process is gone. Never rejects. */
  readonly exited: Promise<void>;
  #hasExited = false;

  private constructor(options: ContainerOptions, child: ChildProcess) {
    this.#options = options;
    this.#child = child;
    this.exited = new Promise((resolve) => {
      const end = (): void => {
        this.#hasExited = true;
        resolve();
      };
      child.once("exit", end);
      // A program that cannot be started gives this event alone.
      child.once("error", end);
    });
  }

  static async start(options: ContainerOptions): Promise<Container> {
    await faultPoint("runtime.container.run");
    const { runtimePath, stateDirectory, bundlePath, pidPath, id, log } = options;
    const args = ["--root", stateDirectory, "run", "--bundle", bundlePath, "--pid-file", pidPath, id];
    return new Container(options, spawn(runtimePath, args, { stdio: ["ignore", log.fd, log.fd] }));
  }

  get hasExited(): boolean {
    return this.#hasExited;
  }

  /**
   * Kills all processes and waits until they are gone. With the first process of the PID namespace the kernel kills all others; before that
   * one runs, the runtime's own processes are what there is.
   */
  async kill(): Promise<void> {
    const deadline = Date.now() + KILL_DEADLINE_MS;
    while (!this.#hasExited) {
      if (Date.now() > deadline)
        throw new Error(`Cannot end container ${this.#options.id}: processes of it survive SIGKILL`);
      for (const pid of await this.#processes()) killProcess(pid);
      await Promise.race([this.exited, new Promise((resolve) => setTimeout(resolve, POLL_MS))]);
    }
  }

  async #processes(): Promise<readonly number[]> {
    const first = Number(await readFile(this.#options.pidPath, "utf8").catch(() => ""));
    if (first > 0) return [first];
    const children = await readChildren(this.#child.pid);
    const members = await cgroupProcesses(this.#options.cgroups, this.#options.cgroupPath);
    const pids = [...members, ...children];
    // Without any process of the container, the runtime is at its very beginning, or at its very end.
    return pids.length > 0 || this.#child.pid === undefined ? pids : [this.#child.pid];
  }
}

async function readChildren(pid: number | undefined): Promise<readonly number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  return text
    .split(" ")
    .map(Number)
    .filter((child) => child > 0);
}

function killProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (!hasErrorCode(error, "ESRCH")) throw error;
  }
}

/** Kills every process in the cgroup of a container of which nothing else is known. */
export async function killCgroup(cgroups: Cgroups, cgroupPath: string): Promise<void> {
  const deadline = Date.now() + KILL_DEADLINE_MS;
  for (;;) {
    const pids = await cgroupProcesses(cgroups, cgroupPath);
    if (pids.length === 0) return;
    if (Date.now() > deadline)
      throw new Error(`Cannot end cgroup ${cgroupPath}: processes ${pids.join(", ")} survive SIGKILL`);
    for (const pid of pids) killProcess(pid);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
