import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { limitSettings, ReadyQueue, readCgroups, UndoStack } from "@caisson/linux";
import { ensureAgentBundle, mountAgentBundle } from "../agent/agent-bundle.ts";
import { agentSources } from "../agent/agent-sources.ts";
import { agentEnvironment, HOME } from "../agent/environment.ts";
import { KILL_TIMEOUT_MS } from "../container.ts";
import { findOciRuntime } from "../find-oci-runtime.ts";
import { ownFiles } from "../root/own-files.ts";
import { readSeccompProfile } from "../seccomp/seccomp.ts";
import { Adopter } from "../warm/adopter.ts";
import { prepareLowerPath } from "../warm/lower-path.ts";
import { mountPlaceholder } from "../warm/placeholder.ts";
import { WarmContainer } from "../warm/warm-container.ts";
import { makeTryDirectory, prepareTryEnvironment, TRY_IDS } from "./try-environment.ts";

const MEMORY_BYTES = 768 * 2 ** 20;
const LIMITS = { memoryBytes: MEMORY_BYTES, cpuCount: 1, pidsMax: 64, terminalsMax: 1 };
const TIMEOUT_MS = 20_000;

/**
 * Has one container wait, gives it an empty root and its agent a configuration, and ends it: a warm start in all but the network. Throws with what failed.
 * Everything that this makes lies in a temporary directory and in a cgroup of its own, and is gone afterwards.
 */
export async function tryWarmStart(runtimePath: string): Promise<void> {
  await using undo = new UndoStack();
  const directory = await makeTryDirectory(undo);
  const [lowerRoot, scratch, sandboxes, agents] = await Promise.all(
    ["root", "scratch", "sandboxes", "agents"].map(async (name) => {
      await mkdir(join(directory, name), { mode: 0o711 });
      return join(directory, name);
    }),
  );
  const [program, cgroups, seccomp] = await Promise.all([
    findOciRuntime(runtimePath),
    readCgroups(),
    readSeccompProfile(),
  ]);
  const bundle = await ensureAgentBundle(agents ?? "", agentSources());
  const agent = undo.use(await mountAgentBundle(bundle, join(directory, "agent"), join(directory, "empty")));
  const placeholder = join(directory, "placeholder");
  undo.use(await mountPlaceholder(placeholder));
  const lower = undo.use(await prepareLowerPath(join(directory, "lower")));
  const parts = {
    program,
    cgroups,
    seccomp,
    agent,
    runDirectory: directory,
    stateDirectory: join(directory, "state"),
    sandboxesDirectory: sandboxes ?? "",
    environments: new ReadyQueue(0, () => prepareTryEnvironment(directory, program, cgroups)),
    lxcfs: { files: {} },
    terminals: { guaranteed: LIMITS.terminalsMax },
    startTimeoutMs: TIMEOUT_MS,
    killTimeoutMs: KILL_TIMEOUT_MS,
  };
  const container = undo.use(new WarmContainer(MEMORY_BYTES));
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  await container.prepare(parts, placeholder, signal);
  const adopter = undo.use(new Adopter());
  const waiting = container.adopt();
  const { namespaces } = waiting.environment;
  await adopter.adopt({
    mountNamespace: waiting.mountNamespace.fd,
    utsNamespace: waiting.utsNamespace.fd,
    userNamespace: namespaces.user.fd,
    agentRun: waiting.agentRun.fd,
    ownerId: TRY_IDS.firstHostId,
    cgroup: limitSettings(cgroups, waiting.environment.cgroupPath, LIMITS),
    processIds: waiting.processIds,
    limits: LIMITS,
    hostname: "try",
    root: { kind: "ephemeral", lowerPath: lowerRoot ?? "", scratchPath: scratch ?? "" },
    ownFiles: ownFiles("try", namespaces.slot.address, ""),
    certificates: null,
    mounts: [],
    lowerPath: lower.path,
  });
  using configuration = waiting.agent.openConfiguration(HOME, agentEnvironment({}, MEMORY_BYTES, null), signal);
  await configuration.send();
  container.run();
}
