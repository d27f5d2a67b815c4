import { type FileHandle, readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  cgroupProcesses,
  cloneTree,
  type Descriptor,
  openNamespace,
  step,
  UndoStack,
  weightSettings,
  writeCgroup,
} from "@caisson/linux";
import { randomCharacters } from "@caisson/model";
import type { AgentSocket } from "../agent/agent-socket.ts";
import { waitingEnvironment } from "../agent/environment.ts";
import { killContainer } from "../container.ts";
import type { PreparedEnvironment } from "../prepared-environment.ts";
import { mountAgentRun, mountNetworkSysfs } from "../root/root-mount.ts";
import { SandboxDirectory } from "../sandbox-directory.ts";
import type { ContainerParts } from "../shared-parts.ts";
import { openLog, pidPathOf, startContainer, writeConfig } from "../start-container.ts";
import { ownProcesses } from "./own-processes.ts";

/** `ended`: also one that could not be prepared, or that died. */
export type WarmState = "preparing" | "waiting" | "adopting" | "running" | "ended";

/** What a container has that waits. */
export interface WaitingParts {
  readonly environment: PreparedEnvironment;
  readonly agent: AgentSocket;
  /** A copy of the mount of the agent's directory that is attached nowhere on the host. */
  readonly agentRun: Descriptor;
  readonly mountNamespace: FileHandle;
  readonly utsNamespace: FileHandle;
  readonly processIds: readonly number[];
  readonly pidPath: string;
}

/**
 * A container whose agent runs, has rehearsed, and waits on the placeholder for a root of its own: `preparing` → `waiting` → `adopting` → `running` →
 * `ended`. It becomes the sandbox of one create and of no other, and no code of a user runs in it before.
 */
export class WarmContainer implements AsyncDisposable {
  /** What its agent's heap is made for. */
  readonly memoryBytes: number;
  readonly #undo = new UndoStack();
  readonly #ended = Promise.withResolvers<void>();
  #state: WarmState = "preparing";
  #parts: WaitingParts | null = null;
  #kill: () => Promise<void> = async () => undefined;
  /** The files of lxcfs that it shows; others since then mean that lxcfs was started again. */
  #shownFiles: Readonly<Record<string, string>> = {};

  constructor(memoryBytes: number) {
    this.memoryBytes = memoryBytes;
  }

  get state(): WarmState {
    return this.#state;
  }

  /** Resolves when the container is gone, for whatever reason. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Whether it shows what a container that is started now would show. */
  isUpToDate(shared: ContainerParts): boolean {
    return this.#shownFiles === shared.lxcfs.files;
  }

  /** Makes it wait. After a failure it must be disposed of. */
  async prepare(shared: ContainerParts, placeholder: string, signal: AbortSignal): Promise<void> {
    const undo = this.#undo;
    const environment = undo.use(await shared.environments.take(signal));
    const { namespaces, cgroupPath, containerProcess } = environment;
    const id = `warm-${randomCharacters(20)}`;
    const directory = new SandboxDirectory(join(shared.sandboxesDirectory, id));
    undo.defer(() => directory.remove());
    await step("runtime.warm.directory", () => directory.create());
    await writeCgroup(weightSettings(shared.cgroups, cgroupPath, "low"));
    const agentRunPath = await mountAgentRun(directory, namespaces.slot.ids, 0);
    const sysfsPath = await mountNetworkSysfs(directory, namespaces.network);
    const agentRun = undo.use(await cloneTree(agentRunPath));
    const log = await openLog(agentRun);
    undo.defer(() => log.close());
    this.#shownFiles = shared.lxcfs.files;
    const start = {
      id,
      directory,
      environment,
      log,
      socketDirectory: agentRun.path,
      config: {
        hostname: "caisson",
        rootPath: placeholder,
        isRootReadOnly: true,
        workingDirectory: "/",
        environment: waitingEnvironment(this.memoryBytes),
        agentRunPath,
        sysfsPath,
        files: {},
        readOnlyFiles: this.#shownFiles,
        mounts: [],
        limits: { memoryBytes: this.memoryBytes, terminalsMax: shared.terminals.guaranteed },
      },
      // It can only be lowered later.
      processesMax: null,
    };
    await writeConfig(shared, start);
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(shared.startTimeoutMs)]);
    const agent = await step("runtime.warm.container", () => startContainer(shared, start, undo, deadline));
    // The container has its own; every other container that starts would copy these.
    await directory.unmount();
    const pidPath = pidPathOf(directory);
    const { cgroups, killTimeoutMs } = shared;
    this.#kill = () => killContainer({ containerProcess, id, pidPath, cgroupPath, cgroups, killTimeoutMs });
    const firstPid = Number(await readFile(pidPath, "utf8"));
    const mountNamespace = undo.use(await openNamespace(firstPid, "mnt"));
    const utsNamespace = undo.use(await openNamespace(firstPid, "uts"));
    const processIds = await ownProcesses(namespaces.slot.ids, await cgroupProcesses(shared.cgroups, cgroupPath));
    this.#parts = { environment, agent, agentRun, mountNamespace, utsNamespace, processIds, pidPath };
    void containerProcess.exited.then(() => this.#end());
    if (this.#state === "preparing") this.#state = "waiting";
  }

  /** Takes it, once. */
  adopt(): WaitingParts {
    if (this.#state !== "waiting" || this.#parts === null)
      throw new Error(`A container cannot become a sandbox while it is ${this.#state}`);
    this.#state = "adopting";
    return this.#parts;
  }

  /** It is a sandbox now. */
  run(): void {
    if (this.#state !== "adopting") throw new Error(`A container that is ${this.#state} cannot run`);
    this.#state = "running";
  }

  /** Ends all processes in it. */
  async kill(): Promise<void> {
    await this.#kill();
  }

  /** Ends them, and lets go of what it was given as a sandbox: its mounts go with the last who holds their namespace. */
  async letGo(): Promise<void> {
    await this.#kill();
    await this.#parts?.mountNamespace.close();
  }

  /** Ends it, whatever part of it there is. After a failure, doing it again continues. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end();
    await this.#undo[Symbol.asyncDispose]();
  }

  #end(): void {
    this.#state = "ended";
    this.#ended.resolve();
  }
}
