import { createHash } from "node:crypto";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import {
  type Cgroups,
  type DiskLimits,
  diskHierarchy,
  ReadyQueue,
  readCgroups,
  readProcessors,
  removeCgroup,
  setMountAttributes,
  settleAll,
  UndoStack,
} from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { tryHostClaim } from "../network/host-claim.ts";
import { PLACES_DEFAULT } from "../network/places.ts";
import { type NetworkOptions, SandboxNetwork } from "../network/sandbox-network.ts";
import type { RunningSandbox, SandboxRuntime, SandboxSpec } from "../runtime.ts";
import { ensureAgentBundle, mountAgentBundle } from "./agent/agent-bundle.ts";
import { agentSources } from "./agent/agent-sources.ts";
import { KILL_TIMEOUT_MS, killCgroup } from "./container.ts";
import { findOciRuntime } from "./find-oci-runtime.ts";
import { putLimitsOutOfReach, readProcessLimit, readTerminalLimit } from "./limits/host-limits.ts";
import { hostPlaces } from "./limits/host-places.ts";
import { HostShares } from "./limits/host-shares.ts";
import { type PreparedEnvironment, prepareEnvironment } from "./prepared-environment.ts";
import { Sandbox } from "./sandbox.ts";
import { removeLeftDirectory } from "./sandbox-directory.ts";
import { readSeccompProfile } from "./seccomp/seccomp.ts";
import type { SharedParts } from "./shared-parts.ts";
import { Lxcfs } from "./view/lxcfs.ts";
import { ProcessorShares } from "./view/processor-shares.ts";
import { openWarmParts, type WarmSettings } from "./warm/open-warm-parts.ts";
import type { WarmParts } from "./warm/warm-start.ts";

export interface RuntimeLogger {
  debug(details: object, message: string): void;
  warn(details: object, message: string): void;
}

export interface OciRuntimeOptions {
  /** A directory of this runtime alone: bundles, mounts and the agent's files. Made when missing; leftovers in it are removed. */
  readonly runDirectory: string;
  /** Tells servers on one host apart: names its rules, interfaces and cgroups. Default: made from the directory's path. */
  readonly instance?: string;
  readonly network?: NetworkOptions;
  /** How many sandboxes to keep ready to start, as far as that goes without knowing them. Default: 4. */
  readonly preparedCount?: number;
  /** Containers that wait with their agents started, so that most of a start is done. Default: none. */
  readonly warm?: WarmSettings;
  /** What each sandbox may do with each of its disks every second, in each direction. Default: as much as there is. */
  readonly diskLimits?: Omit<DiskLimits, "devices">;
  readonly logger?: RuntimeLogger;
  /** `crun`, `runc`, or a path to one. Default: the first of the two that is installed. */
  readonly runtimePath?: string;
  /** The bundled agent. Default: the one of this workspace. */
  readonly agentPath?: string;
  /** Default: the `deno` package of this workspace. */
  readonly denoPath?: string;
  /** A static init. Default: `/usr/bin/tini-static`. */
  readonly tiniPath?: string;
  /** How long a sandbox may take until it answers, and a container until it waits. Its processes may take a quarter of that to end. Default: 45 seconds. */
  readonly startTimeoutMs?: number;
  /** How long programs that take SIGTERM themselves may save their state when a sandbox ends. Default: 2 seconds. */
  readonly stopGraceMs?: number;
}

/** Runs sandboxes with an OCI runtime (crun, or runc). */
export class OciRuntime implements SandboxRuntime {
  readonly name: string;
  readonly placeCount: number;
  readonly placeBound: string | null;
  readonly #shared: SharedParts;
  readonly #warm: WarmParts | null;
  readonly #resources: UndoStack;
  readonly #logger: RuntimeLogger | undefined;
  readonly #sandboxes: Map<string, Sandbox>;
  #isClosed = false;

  private constructor(
    shared: SharedParts,
    warm: WarmParts | null,
    sandboxes: Map<string, Sandbox>,
    resources: UndoStack,
    logger: RuntimeLogger | undefined,
    placeBound: string | null,
  ) {
    this.placeCount = shared.placeCount;
    this.placeBound = placeBound;
    this.name = `oci (${shared.program.path})`;
    this.#shared = shared;
    this.#warm = warm;
    this.#sandboxes = sandboxes;
    this.#resources = resources;
    this.#logger = logger;
  }

  /** Prepares what sandboxes share. Only one runtime of an instance can be open on a host. */
  static async open(options: OciRuntimeOptions): Promise<OciRuntime> {
    const instance = options.instance ?? createHash("sha256").update(options.runDirectory).digest("hex").slice(0, 10);
    requireInstanceName(instance);
    await using undo = new UndoStack();
    const claim = await tryHostClaim(`instance-${instance}`);
    if (claim === null) {
      throw new CaissonError(
        "INTERNAL_ERROR",
        `Cannot start runtime "${instance}": another server on this host uses that name. Stop it, or give this one another directory`,
      );
    }
    undo.use(claim);
    const { diskLimits, startTimeoutMs = 45_000 } = options;
    // Where starts may take long, everything does.
    const killTimeoutMs = Math.max(KILL_TIMEOUT_MS, startTimeoutMs / 4);
    const cgroups = await readCgroups({ isDiskLimited: diskLimits !== undefined });
    if (diskLimits !== undefined && diskHierarchy(cgroups) === null) {
      throw new CaissonError(
        "INVALID_CONFIG",
        "Cannot limit the disks of sandboxes: this host has no cgroup controller for that. Remove disk_bandwidth and disk_operations, or boot with io (version 2) or blkio (version 1)",
      );
    }
    const cgroupParent = `/caisson-${instance}`;
    const directories = await prepareDirectories(options.runDirectory);
    const [program, sourceBundle, seccomp] = await Promise.all([
      findOciRuntime(options.runtimePath),
      ensureAgentBundle(directories.agents, agentSources(options)),
      readSeccompProfile(),
    ]);
    // Also what the OCI runtime keeps there for itself: crun 1.21 caches compiled seccomp filters below its state directory.
    undo.defer(() => rm(directories.state, { recursive: true, force: true }));
    await shareMounts();
    await removeLeftovers(cgroups, cgroupParent, directories.sandboxes, killTimeoutMs);
    const agent = undo.use(
      await mountAgentBundle(sourceBundle, join(options.runDirectory, "agent"), join(options.runDirectory, "empty")),
    );
    undo.defer(() => removeCgroup(cgroups, cgroupParent));
    await putLimitsOutOfReach();
    const processes = await readProcessLimit(cgroups);
    const terminals = await readTerminalLimit();
    const wanted = options.network?.placeCount ?? PLACES_DEFAULT;
    const affordable = hostPlaces(wanted, wanted, processes).count;
    const network = undo.use(await SandboxNetwork.open(instance, { ...options.network, placeCount: affordable }));
    const places = hostPlaces(wanted, network.slotCount, processes);
    if (places.bound !== null)
      options.logger?.warn({}, `There are places for ${places.count} sandboxes, not for ${wanted}: ${places.bound}`);
    if (!network.hasNameServer) {
      options.logger?.warn(
        {},
        "This host has name servers on its loopback interface only, where sandboxes cannot reach them: set network.name_servers",
      );
    }
    const sandboxes = new Map<string, Sandbox>();
    const lxcfs = undo.use(
      await Lxcfs.open({
        directory: join(options.runDirectory, "lxcfs"),
        pidPath: join(options.runDirectory, "lxcfs.pid"),
        onDied: async () => {
          await settleAll([...sandboxes.values()].map((sandbox) => sandbox.hideLxcfs()));
        },
        onFailure: (error) =>
          options.logger?.warn({ err: error }, "Sandboxes show the memory and processors of the whole host"),
      }),
    );
    const stateDirectory = directories.state;
    const environmentOptions = { program, stateDirectory, cgroups, cgroupParent, network, killTimeoutMs };
    const environments = undo.use(
      new ReadyQueue<PreparedEnvironment>(options.preparedCount ?? 4, () => prepareEnvironment(environmentOptions)),
    );
    environments.fill();
    const shared = {
      program,
      stateDirectory,
      runDirectory: options.runDirectory,
      sandboxesDirectory: directories.sandboxes,
      cgroups,
      agent,
      seccomp,
      resolvConf: network.resolvConf,
      egress: network.egress,
      environments,
      lxcfs,
      placeCount: places.count,
      processorShares: new ProcessorShares(await readProcessors(cgroups)),
      processes: new HostShares(processes.total, places.count),
      terminals: new HostShares(terminals.total, places.count),
      diskLimits: diskLimits ?? null,
      startTimeoutMs,
      killTimeoutMs,
      stopGraceMs: options.stopGraceMs ?? 2_000,
      untilPlaceIsFree: (signal: AbortSignal) => untilOneIsReleased([...sandboxes.values()], signal),
      warn: (error: unknown, message: string) => options.logger?.warn({ err: error }, message),
    };
    const warm =
      options.warm === undefined || options.warm.count === 0
        ? null
        : undo.use(await openWarmParts(shared, options.warm, options.logger));
    return new OciRuntime(shared, warm, sandboxes, undo.move(), options.logger, places.bound);
  }

  async start(spec: SandboxSpec, signal?: AbortSignal): Promise<RunningSandbox> {
    if (this.#isClosed)
      throw new CaissonError("SHUTTING_DOWN", `Cannot start sandbox ${spec.id}: the server is shutting down`);
    if (this.#sandboxes.has(spec.id))
      throw new CaissonError("INTERNAL_ERROR", `Cannot start sandbox ${spec.id}: it is started already`);
    const sandbox = new Sandbox(this.#shared, this.#warm, spec);
    this.#sandboxes.set(spec.id, sandbox);
    try {
      const running = await sandbox.start(signal);
      this.#logger?.debug({ sandbox: spec.id, trace: running.trace }, "Sandbox started");
      return running;
    } catch (error) {
      // Where that fails too, the sandbox stays known, and the caller's own `release` goes on with it.
      await this.release(spec.id).catch((stopError: unknown) =>
        this.#logger?.warn({ err: stopError, sandbox: spec.id }, "Cannot undo the start of a sandbox yet"),
      );
      throw error;
    }
  }

  async stop(id: string): Promise<void> {
    // Opening the runtime removed what an earlier run left of it.
    await this.#sandboxes.get(id)?.stop();
  }

  async release(id: string): Promise<void> {
    const sandbox = this.#sandboxes.get(id);
    if (sandbox === undefined) return;
    await sandbox.release();
    if (this.#sandboxes.get(id) === sandbox) this.#sandboxes.delete(id);
  }

  /** Resolves when as many containers wait as should, or when preparing one has failed: for tests and measurements. Returns how many wait. */
  async untilWarm(): Promise<number> {
    await this.#warm?.pool.filled();
    return this.#warm?.pool.waitingCount ?? 0;
  }

  async list(): Promise<readonly string[]> {
    return [...this.#sandboxes.keys()];
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    try {
      await settleAll([...this.#sandboxes.keys()].map((id) => this.release(id)));
    } finally {
      await this.#resources[Symbol.asyncDispose]();
    }
  }
}

/** Waits for the place of a sandbox that has stopped already. False: there is none to wait for. */
async function untilOneIsReleased(sandboxes: readonly Sandbox[], signal: AbortSignal): Promise<boolean> {
  const released = sandboxes.filter(({ isStopped }) => isStopped).map((sandbox) => sandbox.released);
  if (released.length === 0) return false;
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    signal.throwIfAborted();
    await Promise.race([...released, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
  return true;
}

interface Directories {
  readonly agents: string;
  readonly sandboxes: string;
  readonly state: string;
}

async function prepareDirectories(base: string): Promise<Directories> {
  const directories = { agents: join(base, "agents"), sandboxes: join(base, "sandboxes"), state: join(base, "state") };
  // The processes of a sandbox pass through here as ids of their own when the runtime mounts on their behalf.
  for (const path of [base, ...Object.values(directories)]) await mkdir(path, { recursive: true, mode: 0o711 });
  // The OCI runtime's notes on containers, none of which can be alive.
  await rm(directories.state, { recursive: true, force: true });
  await mkdir(directories.state, { mode: 0o700 });
  return directories;
}

/**
 * Makes an unmount here reach the mount namespaces of sandboxes that are just starting: each begins as a copy of this one, and would
 * otherwise hold on to the volumes of others for a moment.
 */
async function shareMounts(): Promise<void> {
  await setMountAttributes("/", { propagation: "shared", isRecursive: true });
}

/** Ends and removes what an earlier run of this instance left, which happens when it was killed outside namespaces of its own. */
async function removeLeftovers(
  cgroups: Cgroups,
  cgroupParent: string,
  directory: string,
  killTimeoutMs: number,
): Promise<void> {
  await killCgroup(cgroups, cgroupParent, killTimeoutMs);
  await removeCgroup(cgroups, cgroupParent);
  for (const id of await readdir(directory)) await removeLeftDirectory(join(directory, id));
}

function requireInstanceName(name: string): void {
  if (/^[a-z0-9](?:[a-z0-9-]{0,18}[a-z0-9])?$/.test(name)) return;
  throw new CaissonError(
    "INVALID_CONFIG",
    `Invalid instance name ${JSON.stringify(name)}: use 1 to 20 characters of a-z, 0-9 and "-"`,
  );
}
