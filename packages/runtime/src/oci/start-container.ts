import { constants } from "node:fs";
import { type FileHandle, open, rm } from "node:fs/promises";
import { join } from "node:path";
import type { HasDescriptor, UndoStack } from "@caisson/linux";
import { type AgentSocket, waitForAgent } from "./agent/agent-socket.ts";
import { type ConfigInput, namespacePath, ociConfig } from "./config.ts";
import { killContainer, readFirstPid } from "./container.ts";
import type { PreparedEnvironment } from "./prepared-environment.ts";
import type { SandboxDirectory } from "./sandbox-directory.ts";
import type { ContainerParts } from "./shared-parts.ts";

const LOG_NAME = "agent.log";
const LOG_TAIL_BYTES = 4096;

/** Written by this process first, then by the runtime and the agent through the same descriptor. */
const LOG_FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_APPEND | constants.O_NOFOLLOW;

/** What the runtime and the environment do not already say of a container. */
export type ContainerConfig = Omit<
  ConfigInput,
  "agent" | "cgroups" | "cgroupPath" | "ids" | "isRunc" | "networkNamespacePath" | "seccomp" | "userNamespacePath"
>;

export interface ContainerStart {
  /** Its name for the OCI runtime. */
  readonly id: string;
  readonly directory: SandboxDirectory;
  readonly environment: PreparedEnvironment;
  readonly config: ContainerConfig;
  /** What its programs see as their limit (`ulimit -u`); null: that of this process. */
  readonly processesMax: number | null;
  readonly log: FileHandle;
  /** Where the agent's socket will appear, as seen from the host. */
  readonly socketDirectory: string;
}

/** Where the OCI runtime writes the number of the first process. */
export function pidPathOf(directory: SandboxDirectory): string {
  return join(directory.path, "pid");
}

/**
 * Opens the log of a container in the agent's directory. A sandbox sees the paths of its descriptors, and must not learn paths of the host, so the
 * directory is given by a copy of its mount that is attached nowhere.
 */
export async function openLog(unattached: HasDescriptor): Promise<FileHandle> {
  return open(`/proc/self/fd/${unattached.fd}/${LOG_NAME}`, LOG_FLAGS, 0o600);
}

export function writeConfig(
  shared: ContainerParts,
  { directory, environment, config }: ContainerStart,
): Promise<string> {
  const { namespaces, cgroupPath } = environment;
  const whole = ociConfig({
    ...config,
    agent: shared.agent,
    cgroups: shared.cgroups,
    cgroupPath,
    ids: namespaces.slot.ids,
    isRunc: shared.program.isRunc,
    networkNamespacePath: namespacePath(namespaces.network),
    seccomp: shared.seccomp,
    userNamespacePath: namespacePath(namespaces.user),
  });
  return directory.write("config.json", JSON.stringify(whole));
}

/** Starts the container whose configuration is written, and resolves when its agent accepts connections and its first process is known. `undo` ends it. */
export async function startContainer(
  shared: ContainerParts,
  { id, directory, environment, processesMax, log, socketDirectory }: ContainerStart,
  undo: UndoStack,
  signal: AbortSignal,
): Promise<AgentSocket> {
  const { containerProcess, cgroupPath } = environment;
  const { cgroups, stateDirectory, runDirectory, killTimeoutMs } = shared;
  undo.defer(() => rm(join(stateDirectory, id), { recursive: true, force: true }));
  const pidPath = pidPathOf(directory);
  undo.defer(() => killContainer({ containerProcess, id, pidPath, cgroups, cgroupPath, killTimeoutMs }));
  const logPath = `/proc/${process.pid}/fd/${log.fd}`;
  containerProcess.start({ processesMax, bundlePath: directory.path, logPath, id });
  const gone = new AbortController();
  void containerProcess.exited.then(() => gone.abort(new Error("its first process ended")));
  try {
    const stopped = AbortSignal.any([signal, gone.signal]);
    const agent = undo.use(await waitForAgent(socketDirectory, stopped));
    await readFirstPid(pidPath, stopped);
    return agent;
  } catch (error) {
    // A user of the sandbox reads this message and must not learn paths of the host.
    const text = (await readTail(log)).replaceAll(runDirectory, "");
    throw new Error(`${messageOf(error)}${text === "" ? "" : `: ${text}`}`, { cause: error });
  }
}

async function readTail(log: FileHandle): Promise<string> {
  const buffer = Buffer.alloc(LOG_TAIL_BYTES);
  const { bytesRead } = await log.read(buffer, 0, buffer.length, 0);
  return buffer.toString("utf8", 0, bytesRead).trim();
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
