import {
  type Cgroups,
  createCgroup,
  joinCgroup,
  limitCgroupDevices,
  removeCgroup,
  step,
  UndoStack,
} from "@caisson/linux";
import type { PreparedNamespaces } from "../network/namespaces.ts";
import type { SandboxNetwork } from "../network/sandbox-network.ts";
import { killCgroup } from "./container.ts";
import { ContainerProcess } from "./container-process.ts";
import type { OciProgram } from "./find-oci-runtime.ts";

/**
 * The devices that every OCI runtime puts into a container: null, zero, full, random, urandom, tty, ptmx and the terminals. Mounts without
 * `dev` and the user namespace already keep all others away; this is a second wall where cgroups have one.
 */
const DEVICES: readonly string[] = ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:2", "136:*"];

/**
 * What can be made for a sandbox before it is known which one it will be: namespaces, a cgroup, and a process in it that is about to become
 * the OCI runtime. One that waits costs about 0.3 MB of kernel memory and an idle shell. It is used once.
 */
export interface PreparedEnvironment extends AsyncDisposable {
  readonly namespaces: PreparedNamespaces;
  readonly containerProcess: ContainerProcess;
  readonly cgroupPath: string;
}

export interface EnvironmentOptions {
  readonly program: OciProgram;
  readonly stateDirectory: string;
  readonly cgroups: Cgroups;
  readonly cgroupParent: string;
  readonly network: SandboxNetwork;
  /** How long the processes of one may take to end. */
  readonly killTimeoutMs: number;
}

export async function prepareEnvironment(options: EnvironmentOptions): Promise<PreparedEnvironment> {
  const { program, stateDirectory, cgroups, cgroupParent, network, killTimeoutMs } = options;
  await using undo = new UndoStack();
  const namespaces = undo.use(await network.prepare());
  const name = String(namespaces.slot.index);
  const cgroupPath = `${cgroupParent}/${name}`;
  undo.defer(async () => {
    await killCgroup(cgroups, cgroupPath, killTimeoutMs);
    await removeCgroup(cgroups, cgroupPath);
  });
  await step("runtime.environment.cgroup", () => createCgroup(cgroups, cgroupParent, name));
  const containerProcess = undo.use(
    ContainerProcess.prepare(program.path, ["--root", stateDirectory, ...program.args]),
  );
  await step("runtime.environment.join", () => joinCgroup(cgroups, cgroupPath, containerProcess.pid));
  await limitCgroupDevices(cgroups, cgroupPath, DEVICES);
  const resources = undo.move();
  return { namespaces, containerProcess, cgroupPath, [Symbol.asyncDispose]: () => resources[Symbol.asyncDispose]() };
}
