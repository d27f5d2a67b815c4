import {
  type CgroupSetting,
  endProcessForMemory,
  limitSettings,
  readMemoryStallUs,
  readMemoryUse,
  type UndoStack,
} from "@caisson/linux";
import type { SandboxLimits, SandboxSpec } from "../../runtime.ts";
import type { SharedParts } from "../shared-parts.ts";
import { disksOf } from "./disks.ts";
import { ThrashingWatch } from "./thrashing-watch.ts";

/** The limits of a sandbox, lowered to what the host has for it. */
export function shareOfHost(shared: SharedParts, { limits }: SandboxSpec, undo: UndoStack): SandboxLimits {
  const processes = shared.processes.take(limits.pidsMax);
  const terminals = shared.terminals.take(limits.terminalsMax);
  undo.defer(async () => {
    processes[Symbol.dispose]();
    terminals[Symbol.dispose]();
  });
  return { ...limits, pidsMax: processes.count, terminalsMax: terminals.count };
}

/** What the cgroup of a sandbox is to be limited to, before anything of the user's runs in it. Its part of processors that are shared out goes back with `undo`. */
export async function sandboxCgroup(
  shared: SharedParts,
  { root, mounts }: SandboxSpec,
  limits: SandboxLimits,
  cgroupPath: string,
  undo: UndoStack,
): Promise<readonly CgroupSetting[]> {
  const { cgroups, diskLimits, processorShares } = shared;
  const disk = diskLimits === null ? {} : { disk: { ...diskLimits, devices: await disksOf(root, mounts) } };
  const share = processorShares.take(limits.cpuCount);
  if (share !== null) undo.defer(async () => share[Symbol.dispose]());
  const processors = share === null ? {} : { processors: share.processors };
  return limitSettings(cgroups, cgroupPath, { ...limits, ...disk, ...processors });
}

/** Once it runs. Where the kernel does not measure how long programs wait for memory (version 1 of cgroups), it watches nothing. */
export function watchForThrashing(
  { cgroups, warn }: SharedParts,
  { memoryBytes }: SandboxLimits,
  cgroupPath: string,
  undo: UndoStack,
): void {
  const memory = {
    memoryBytes,
    stallUs: () => readMemoryStallUs(cgroups, cgroupPath),
    use: () => readMemoryUse(cgroups, cgroupPath),
    endProcess: () => endProcessForMemory(cgroups, cgroupPath, memoryBytes),
  };
  undo.use(new ThrashingWatch(memory, { onFailure: (error) => warn(error, "Cannot end a process that wants memory") }));
}

/** Before anything runs, and given up only when nothing runs any more, since the next sandbox may have the same address. */
export async function restrictEgress(
  shared: SharedParts,
  { egress }: SandboxSpec,
  address: string,
  undo: UndoStack,
): Promise<void> {
  if (egress !== undefined) undo.use(await shared.egress.restrict(address, egress));
}
