import { chown, type FileHandle, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { cloneTree, type IdRange, oomKills, settleAll, UndoStack, unmountElsewhere, writeCgroup } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { connectToPort } from "../network/connect-to-port.ts";
import type { Slot } from "../network/places.ts";
import type { ExitCause, RunningSandbox, SandboxLimits, SandboxSpec } from "../runtime.ts";
import type { AgentSocket } from "./agent/agent-socket.ts";
import { agentEnvironment, HOME } from "./agent/environment.ts";
import { killContainer } from "./container.ts";
import { restrictEgress, sandboxCgroup, shareOfHost, watchForThrashing } from "./limits/limit-sandbox.ts";
import type { PreparedEnvironment } from "./prepared-environment.ts";
import { CERTIFICATES, CERTIFICATES_BYTES_MAX, certificateBundle } from "./root/certificate-bundle.ts";
import { requireOwnDirectories, resolveTargets } from "./root/mount-target.ts";
import { type OwnFile, ownFiles } from "./root/own-files.ts";
import { mountAgentRun, mountData, mountNetworkSysfs, mountRoot } from "./root/root-mount.ts";
import { SandboxDirectory } from "./sandbox-directory.ts";
import type { SharedParts } from "./shared-parts.ts";
import { messageOf, openLog, pidPathOf, startContainer, writeConfig } from "./start-container.ts";
import { Trace } from "./trace.ts";
import { LXCFS_TYPE } from "./view/lxcfs.ts";
import { clearScratch, planWarmStart, startWarm, type WarmParts } from "./warm/warm-start.ts";

/** What has been started, of whichever start. */
interface Started {
  readonly environment: PreparedEnvironment;
  readonly agent: AgentSocket;
  /** Where the OCI runtime has written the number of the first process. */
  readonly pidPath: string;
  /** Kills every process and lets go of the directories of the spec. After a failure, calling it again continues. */
  readonly letGo: () => Promise<void>;
}

/** What the parts of one start share. */
interface StartContext {
  readonly limits: SandboxLimits;
  readonly hostname: string;
  readonly trace: Trace;
  readonly signal: AbortSignal;
}

/** One sandbox, from the first step of its start to the last of its end. What was made is undone in the opposite order. */
export class Sandbox {
  readonly #shared: SharedParts;
  readonly #warm: WarmParts | null;
  readonly #spec: SandboxSpec;
  readonly #undo = new UndoStack();
  readonly #aborted = new AbortController();
  #started: Started | null = null;
  #starting: Promise<RunningSandbox> | null = null;
  #stopping: Promise<void> | null = null;
  #releasing: Promise<void> | null = null;
  #isStopped = false;
  readonly #released = Promise.withResolvers<void>();

  /** `warm`: null where every sandbox starts cold. */
  constructor(shared: SharedParts, warm: WarmParts | null, spec: SandboxSpec) {
    this.#shared = shared;
    this.#warm = warm;
    this.#spec = spec;
  }

  /** After a failure `stop` undoes what was made. */
  async start(signal?: AbortSignal): Promise<RunningSandbox> {
    const timeout = AbortSignal.timeout(this.#shared.startTimeoutMs);
    const signals = [this.#aborted.signal, timeout, ...(signal === undefined ? [] : [signal])];
    this.#starting = this.#start(AbortSignal.any(signals));
    try {
      return await this.#starting;
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof CaissonError) throw error;
      const reason = timeout.aborted
        ? `it was not ready after ${this.#shared.startTimeoutMs / 1000} s`
        : messageOf(error);
      throw new CaissonError("SANDBOX_START_FAILED", `Cannot start sandbox ${this.#spec.id}: ${reason}`, {
        cause: error,
      });
    }
  }

  /** Shows the kernel's own files again where those of lxcfs were, since it has died. A start that is under way is waited for. */
  async hideLxcfs(): Promise<void> {
    await this.#starting?.catch(() => undefined);
    if (this.#started === null) return;
    const pid = Number(await readFile(this.#started.pidPath, "utf8").catch(() => ""));
    if (pid > 0) await unmountElsewhere(pid, LXCFS_TYPE);
  }

  /** None of its processes lives any more; it still has its place. */
  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** Resolves when everything is given back. */
  get released(): Promise<void> {
    return this.#released.promise;
  }

  /** Ends a start that is under way, or the running sandbox. After a failure, calling it again continues. */
  async stop(): Promise<void> {
    if (this.#isStopped) return;
    this.#stopping ??= this.#stop().finally(() => {
      this.#stopping = null;
    });
    return this.#stopping;
  }

  /** Stops it where that has not happened, and gives back all that was made. After a failure, calling it again continues. */
  async release(): Promise<void> {
    this.#releasing ??= this.#release().finally(() => {
      this.#releasing = null;
    });
    return this.#releasing;
  }

  async #release(): Promise<void> {
    await this.stop();
    await this.#undo[Symbol.asyncDispose]();
    this.#released.resolve();
  }

  async #stop(): Promise<void> {
    this.#aborted.abort(
      new CaissonError("SANDBOX_START_FAILED", `Sandbox ${this.#spec.id} was stopped while it started`),
    );
    await this.#starting?.catch(() => undefined);
    if (this.#started === null) {
      // What a start has left that failed is not worth being told apart.
      await this.#undo[Symbol.asyncDispose]();
    } else {
      await this.#started.agent.stop(this.#shared.stopGraceMs);
      await this.#started.agent[Symbol.asyncDispose]();
      await this.#started.letGo();
      // The number of its first process may be that of another by now.
      this.#started = null;
    }
    this.#isStopped = true;
  }

  async #start(signal: AbortSignal): Promise<RunningSandbox> {
    const { id } = this.#spec;
    const trace = new Trace();
    const limits = shareOfHost(this.#shared, this.#spec, this.#undo);
    const hostname = this.#spec.hostname ?? id.replaceAll("_", "-");
    const context = { limits, hostname, trace, signal };
    const started = (await this.#startWarm(context)) ?? (await this.#startCold(context));
    this.#started = started;
    const { agent, environment } = started;
    watchForThrashing(this.#shared, limits, environment.cgroupPath, this.#undo);
    const exited = environment.containerProcess.exited.then((code) => this.#exitCause(code, environment.cgroupPath));
    return {
      id,
      get agentSocketPath() {
        return agent.path;
      },
      connect: (port, inside) => connectToPort(environment.namespaces, port, inside),
      exited,
      ownEnd: async () => {
        if (await agent.isAlive()) return null;
        return await Promise.race([exited, delay(OWN_END_WAIT_MS, null, { ref: false })]);
      },
      trace: trace.entries,
    };
  }

  /**
   * With a container that waits; null when none does that could take this root. One that fails is discarded, and the sandbox starts cold at once: when
   * that succeeds, the failure was the container's.
   */
  async #startWarm(context: StartContext): Promise<Started | null> {
    const warm = this.#warm;
    if (warm === null) return null;
    const { trace, signal, limits, hostname } = context;
    const mounts = await trace.run("plan", () => planWarmStart(this.#spec));
    const container = mounts === null ? null : warm.pool.take(limits.memoryBytes);
    if (container === null || mounts === null) return null;
    const undo = this.#undo.use(new UndoStack());
    try {
      const start = { spec: this.#spec, limits, hostname, container, mounts };
      const parts = await startWarm(this.#shared, warm, start, { undo, trace, signal });
      warm.pool.succeeded();
      return { ...parts, letGo: () => container.letGo() };
    } catch (error) {
      signal.throwIfAborted();
      // With its last process it lets go of the directories; the rest of its undoing is nothing to wait for.
      await container.kill();
      warm.pool.discard(undo.move());
      await clearScratch(this.#spec.root);
      const started = await this.#startCold(context);
      warm.pool.failed(error);
      return started;
    }
  }

  async #startCold({ limits, hostname, trace, signal }: StartContext): Promise<Started> {
    const { id, root, mounts, env, egress } = this.#spec;
    const shared = this.#shared;
    const undo = this.#undo;
    const directory = new SandboxDirectory(join(shared.sandboxesDirectory, id));
    undo.defer(() => directory.remove());
    const environment = await trace.run("environment", async () => undo.use(await this.#takeEnvironment(signal)));
    const { namespaces, cgroupPath } = environment;
    const { ids, address } = namespaces.slot;
    const hasSecrets = (egress?.secrets.length ?? 0) > 0;

    await trace.run("directory", () => directory.create());
    const [rootPath, { agentRunPath, files, log }, sysfsPath] = await trace.run("mounts", () =>
      settleAll([
        mountRoot(directory, root, namespaces.user, ids),
        this.#prepareAgentRun(directory, hostname, namespaces.slot, hasSecrets ? CERTIFICATES_BYTES_MAX : 0),
        mountNetworkSysfs(directory, namespaces.network),
        sandboxCgroup(shared, this.#spec, limits, cgroupPath, undo).then(writeCgroup),
        restrictEgress(shared, this.#spec, address, undo),
      ]),
    );
    await requireOwnDirectories(rootPath);
    const certificates = hasSecrets
      ? await trace.run("certificates", () => this.#writeCertificates(agentRunPath, rootPath))
      : {};
    const dataMounts = await trace.run("data-mounts", async () => {
      const mounted = mounts.map((mount, index) => mountData(directory, index, mount, namespaces.user));
      return await resolveTargets(rootPath, root.kind, await settleAll(mounted));
    });
    const config = {
      hostname,
      rootPath,
      isRootReadOnly: false,
      workingDirectory: HOME,
      environment: agentEnvironment(env, limits.memoryBytes, root.kind === "persistent" ? "/tmp" : null),
      agentRunPath,
      sysfsPath,
      files,
      readOnlyFiles: { ...certificates, ...shared.lxcfs.files },
      mounts: dataMounts,
      limits,
    };
    const processesMax = limits.pidsMax;
    const start = { id, directory, environment, config, processesMax, log, socketDirectory: agentRunPath };
    await trace.run("config", () => writeConfig(shared, start));
    signal.throwIfAborted();
    const agent = await trace.run("container", () => startContainer(shared, start, undo, signal));
    const pidPath = pidPathOf(directory);
    const { containerProcess } = environment;
    const { cgroups, killTimeoutMs } = shared;
    const letGo = async (): Promise<void> => {
      await killContainer({ containerProcess, id, pidPath, cgroupPath, cgroups, killTimeoutMs });
      await directory.unmount();
    };
    return { agent, environment, pidPath, letGo };
  }

  /** Containers that wait have places too, which sandboxes get when there are no others, and so have sandboxes that have stopped just now. */
  async #takeEnvironment(signal: AbortSignal): Promise<PreparedEnvironment> {
    for (;;) {
      try {
        return await this.#shared.environments.take(signal);
      } catch (error) {
        const isFull = error instanceof CaissonError && error.code === "SERVER_FULL";
        if (!isFull) throw error;
        if ((await this.#warm?.pool.evict()) !== true && !(await this.#shared.untilPlaceIsFree(signal))) throw error;
      }
    }
  }

  /** The init passes on how the agent ended. A kill is the kernel's for want of memory where it had to do that at all. */
  async #exitCause(code: number | null, cgroupPath: string): Promise<ExitCause> {
    if (code !== KILLED_CODE) return "exited";
    return (await oomKills(this.#shared.cgroups, cgroupPath)) > 0 ? "out-of-memory" : "exited";
  }

  /**
   * The small file system of the agent's socket and log, and in it the files that are shown elsewhere inside. A sandbox sees the path of a
   * mounted file on its file system, and must not learn paths of the host. So the files lie at the top of this file system.
   */
  async #prepareAgentRun(
    directory: SandboxDirectory,
    hostname: string,
    { address, ids }: Slot,
    extraBytes: number,
  ): Promise<AgentRun> {
    const agentRunPath = await mountAgentRun(directory, ids, extraBytes);
    const files = await writeOwnFiles(agentRunPath, ids, ownFiles(hostname, address, this.#shared.resolvConf));
    await using unattached = await cloneTree(agentRunPath);
    const log = await openLog(unattached);
    this.#undo.defer(() => log.close());
    return { agentRunPath, files, log };
  }

  /** What the root trusts and the authority that signs for the hosts of secrets, for this sandbox alone. */
  async #writeCertificates(agentRunPath: string, rootPath: string): Promise<Readonly<Record<string, string>>> {
    const authority = await this.#shared.egress.authorityCertificate();
    const path = join(agentRunPath, "ca-certificates.crt");
    await writeFile(path, await certificateBundle(rootPath, authority), { mode: 0o644 });
    return { [CERTIFICATES]: path };
  }
}

/** 128 and SIGKILL. */
const KILLED_CODE = 137;
/** How long the first process may take to be gone once the agent is. */
const OWN_END_WAIT_MS = 2_000;

interface AgentRun {
  readonly agentRunPath: string;
  /** Shown elsewhere inside, by their path there. */
  readonly files: Readonly<Record<string, string>>;
  readonly log: FileHandle;
}

/** Returns where the files are on the host, by their path inside. */
async function writeOwnFiles(
  directory: string,
  { firstHostId }: IdRange,
  files: readonly OwnFile[],
): Promise<Readonly<Record<string, string>>> {
  const written = await Promise.all(
    files.map(async ({ name, path, content }) => {
      const onHost = join(directory, name);
      await writeFile(onHost, content, { mode: 0o644 });
      await chown(onHost, firstHostId, firstHostId);
      return [path, onHost] as const;
    }),
  );
  return Object.fromEntries(written);
}
