import { constants } from "node:fs";
import { chown, type FileHandle, open, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  type Cgroups,
  cloneTree,
  type DiskLimits,
  type IdRange,
  limitCgroup,
  oomKills,
  type ReadyQueue,
  settleAll,
  UndoStack,
  unmountElsewhere,
} from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { EgressGuard } from "../egress/egress-guard.ts";
import { connectToPort } from "../network/connect-to-port.ts";
import type { Slot } from "../network/namespaces.ts";
import type { EgressPolicy, ExitCause, RunningSandbox, SandboxLimits, SandboxSpec } from "../runtime.ts";
import type { AgentBundle } from "./agent/agent-bundle.ts";
import { type AgentSocket, waitForAgent } from "./agent/agent-socket.ts";
import { namespacePath, ociConfig } from "./config.ts";
import { killContainer } from "./container.ts";
import type { ContainerProcess } from "./container-process.ts";
import { disksOf } from "./disks.ts";
import type { OciProgram } from "./find-oci-runtime.ts";
import type { HostShares } from "./limits/host-shares.ts";
import type { PreparedEnvironment } from "./prepared-environment.ts";
import { CERTIFICATES, CERTIFICATES_BYTES_MAX, certificateBundle } from "./root/certificate-bundle.ts";
import { requireOwnDirectories, resolveTargets } from "./root/mount-target.ts";
import { mountAgentRun, mountData, mountNetworkSysfs, mountRoot } from "./root/root-mount.ts";
import { SandboxDirectory } from "./sandbox-directory.ts";
import type { SeccompProfile } from "./seccomp/seccomp.ts";
import { Trace } from "./trace.ts";
import { LXCFS_TYPE, type Lxcfs } from "./view/lxcfs.ts";
import type { ProcessorShares } from "./view/processor-shares.ts";

/** What the sandboxes of one runtime share. */
export interface SharedParts {
  readonly program: OciProgram;
  readonly stateDirectory: string;
  /** Everything of the runtime lies below it. */
  readonly runDirectory: string;
  readonly sandboxesDirectory: string;
  readonly cgroups: Cgroups;
  readonly agent: AgentBundle;
  readonly seccomp: SeccompProfile;
  /** The text of `/etc/resolv.conf`. */
  readonly resolvConf: string;
  readonly egress: EgressGuard;
  readonly lxcfs: Lxcfs;
  readonly processorShares: ProcessorShares;
  /** Of the host's process ids and pseudo-terminals. */
  readonly processes: HostShares;
  readonly terminals: HostShares;
  readonly environments: ReadyQueue<PreparedEnvironment>;
  /** Of each sandbox, for each of its disks; null: none. */
  readonly diskLimits: Omit<DiskLimits, "devices"> | null;
  /** Sandboxes that there is room for. */
  readonly placeCount: number;
  readonly startTimeoutMs: number;
  readonly stopGraceMs: number;
}

const LOG_NAME = "agent.log";
const LOG_TAIL_BYTES = 4096;

/** One sandbox, from the first step of its start to the last of its end. What was made is undone in the opposite order. */
export class Sandbox {
  readonly #shared: SharedParts;
  readonly #spec: SandboxSpec;
  readonly #undo = new UndoStack();
  readonly #aborted = new AbortController();
  #agent: AgentSocket | null = null;
  #starting: Promise<RunningSandbox> | null = null;
  #stopping: Promise<void> | null = null;

  constructor(shared: SharedParts, spec: SandboxSpec) {
    this.#shared = shared;
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
    const pid = Number(await readFile(this.#pidPath(), "utf8").catch(() => ""));
    if (pid > 0) await unmountElsewhere(pid, LXCFS_TYPE);
  }

  /** Where the OCI runtime writes the number of the first process. */
  #pidPath(): string {
    return join(this.#shared.sandboxesDirectory, this.#spec.id, "pid");
  }

  /** Ends a start that is under way, or the running sandbox. After a failure, calling it again continues. */
  async stop(): Promise<void> {
    this.#stopping ??= this.#stop().finally(() => {
      this.#stopping = null;
    });
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#aborted.abort(
      new CaissonError("SANDBOX_START_FAILED", `Sandbox ${this.#spec.id} was stopped while it started`),
    );
    await this.#starting?.catch(() => undefined);
    await this.#agent?.stop(this.#shared.stopGraceMs);
    await this.#undo[Symbol.asyncDispose]();
  }

  async #start(signal: AbortSignal): Promise<RunningSandbox> {
    const { id, root, mounts, env, egress } = this.#spec;
    const shared = this.#shared;
    const limits = this.#shareOfHost();
    const trace = new Trace();
    const directory = new SandboxDirectory(join(shared.sandboxesDirectory, id));
    this.#undo.defer(() => directory.remove());
    const { namespaces, containerProcess, cgroupPath } = await trace.run("environment", async () =>
      this.#undo.use(await shared.environments.take(signal)),
    );
    const { ids, address } = namespaces.slot;
    const hostname = this.#spec.hostname ?? id.replaceAll("_", "-");
    const hasSecrets = (egress?.secrets.length ?? 0) > 0;

    await trace.run("directory", () => directory.create());
    const [rootPath, { agentRunPath, files, log }, sysfsPath] = await trace.run("mounts", () =>
      settleAll([
        mountRoot(directory, root, namespaces.user, ids),
        this.#prepareAgentRun(directory, hostname, namespaces.slot, hasSecrets ? CERTIFICATES_BYTES_MAX : 0),
        mountNetworkSysfs(directory, namespaces.network),
        this.#limit(cgroupPath, limits),
        this.#restrict(address, egress),
      ]),
    );
    await requireOwnDirectories(rootPath);
    const certificates = hasSecrets
      ? await trace.run("certificates", () => this.#writeCertificates(agentRunPath, rootPath))
      : {};
    const dataMounts = await trace.run("data mounts", async () => {
      const mounted = mounts.map((mount, index) => mountData(directory, index, mount, namespaces.user));
      return await resolveTargets(rootPath, await settleAll(mounted));
    });
    await trace.run("config", () =>
      directory.write(
        "config.json",
        JSON.stringify(
          ociConfig({
            hostname,
            rootPath,
            isRootLasting: root.kind === "persistent",
            agent: shared.agent,
            agentRunPath,
            sysfsPath,
            files,
            readOnlyFiles: { ...certificates, ...shared.lxcfs.files },
            mounts: dataMounts,
            limits,
            env,
            cgroupPath,
            isRunc: shared.program.isRunc,
            ids,
            cgroups: shared.cgroups,
            userNamespacePath: namespacePath(namespaces.user),
            networkNamespacePath: namespacePath(namespaces.network),
            seccomp: shared.seccomp,
          }),
        ),
      ),
    );
    signal.throwIfAborted();
    this.#undo.defer(() => rm(join(shared.stateDirectory, id), { recursive: true, force: true }));
    const pidPath = this.#pidPath();
    this.#undo.defer(() => killContainer({ containerProcess, id, pidPath, cgroups: shared.cgroups, cgroupPath }));
    const agent = await trace.run("container and agent", async () => {
      const logPath = `/proc/${process.pid}/fd/${log.fd}`;
      containerProcess.start({ processesMax: limits.pidsMax, bundlePath: directory.path, logPath, id });
      return this.#undo.use(await this.#waitForAgent(containerProcess, agentRunPath, signal, log));
    });
    this.#agent = agent;
    const exited = containerProcess.exited.then((code) => this.#exitCause(code, cgroupPath));
    return {
      id,
      agentSocketPath: agent.path,
      connect: (port, inside) => connectToPort(namespaces.network, address, port, inside),
      exited,
      ownEnd: async () => {
        if (await agent.isAlive()) return null;
        return await Promise.race([exited, delay(OWN_END_WAIT_MS, null, { ref: false })]);
      },
      trace: trace.entries,
    };
  }

  /** The init passes on how the agent ended. A kill is the kernel's for want of memory where it had to do that at all. */
  async #exitCause(code: number | null, cgroupPath: string): Promise<ExitCause> {
    if (code !== KILLED_CODE) return "exited";
    return (await oomKills(this.#shared.cgroups, cgroupPath)) > 0 ? "out-of-memory" : "exited";
  }

  /**
   * The small file system of the agent's socket and log, and in it the files that are shown elsewhere inside. A sandbox sees the path of a
   * mounted file on its file system, and the paths of descriptors, and must not learn paths of the host. So the files lie at the top of this
   * file system, and the log is opened through a copy of the mount that is attached nowhere.
   */
  async #prepareAgentRun(
    directory: SandboxDirectory,
    hostname: string,
    { address, ids }: Slot,
    extraBytes: number,
  ): Promise<AgentRun> {
    const agentRunPath = await mountAgentRun(directory, ids, extraBytes);
    const files = await writeFiles(agentRunPath, ids, hostname, address, this.#shared.resolvConf);
    await using unattached = await cloneTree(agentRunPath);
    const log = await open(`/proc/self/fd/${unattached.fd}/${LOG_NAME}`, LOG_FLAGS, 0o600);
    this.#undo.defer(() => log.close());
    return { agentRunPath, files, log };
  }

  /** The limits of the sandbox, lowered to what the host has for it. */
  #shareOfHost(): SandboxLimits {
    const { limits } = this.#spec;
    const processes = this.#shared.processes.take(limits.pidsMax);
    const terminals = this.#shared.terminals.take(limits.terminalsMax);
    this.#undo.defer(async () => {
      processes[Symbol.dispose]();
      terminals[Symbol.dispose]();
    });
    return { ...limits, pidsMax: processes.count, terminalsMax: terminals.count };
  }

  async #limit(cgroupPath: string, limits: SandboxLimits): Promise<void> {
    const { cgroups, diskLimits, processorShares } = this.#shared;
    const { root, mounts } = this.#spec;
    const disk = diskLimits === null ? {} : { disk: { ...diskLimits, devices: await disksOf(root, mounts) } };
    const share = processorShares.take(limits.cpuCount);
    if (share !== null) this.#undo.defer(async () => share[Symbol.dispose]());
    const processors = share === null ? {} : { processors: share.processors };
    await limitCgroup(cgroups, cgroupPath, { ...limits, ...disk, ...processors });
  }

  /** Before anything runs, and given up only when nothing runs any more, since the next sandbox may have the same address. */
  async #restrict(address: string, egress: EgressPolicy | undefined): Promise<void> {
    if (egress !== undefined) this.#undo.use(await this.#shared.egress.restrict(address, egress));
  }

  /** What the root trusts and the authority that signs for the hosts of secrets, for this sandbox alone. */
  async #writeCertificates(agentRunPath: string, rootPath: string): Promise<Readonly<Record<string, string>>> {
    const authority = await this.#shared.egress.authorityCertificate();
    const path = join(agentRunPath, "ca-certificates.crt");
    await writeFile(path, await certificateBundle(rootPath, authority), { mode: 0o644 });
    return { [CERTIFICATES]: path };
  }

  async #waitForAgent(
    containerProcess: ContainerProcess,
    agentRunPath: string,
    signal: AbortSignal,
    log: { read: ReadAt },
  ): Promise<AgentSocket> {
    const gone = new AbortController();
    void containerProcess.exited.then(() => gone.abort(new Error("its first process ended")));
    try {
      return await waitForAgent(agentRunPath, AbortSignal.any([signal, gone.signal]));
    } catch (error) {
      // A user of the sandbox reads this message and must not learn paths of the host.
      const text = (await readTail(log)).replaceAll(this.#shared.runDirectory, "");
      throw new Error(`${messageOf(error)}${text === "" ? "" : `: ${text}`}`, { cause: error });
    }
  }
}

/** 128 and SIGKILL. */
const KILLED_CODE = 137;
/** How long the first process may take to be gone once the agent is. */
const OWN_END_WAIT_MS = 2_000;

/** Written by this process first, then by the runtime and the agent through the same descriptor. */
const LOG_FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_APPEND | constants.O_NOFOLLOW;

type ReadAt = (
  buffer: Buffer,
  offset: number,
  length: number,
  position: number,
) => Promise<{ readonly bytesRead: number }>;

async function readTail(log: { read: ReadAt }): Promise<string> {
  const buffer = Buffer.alloc(LOG_TAIL_BYTES);
  const { bytesRead } = await log.read(buffer, 0, buffer.length, 0);
  return buffer.toString("utf8", 0, bytesRead).trim();
}

interface AgentRun {
  readonly agentRunPath: string;
  /** Shown elsewhere inside, by their path there. */
  readonly files: Readonly<Record<string, string>>;
  readonly log: FileHandle;
}

/** Files that hold the sandbox's own names, which its root may change; the same for a root that lasts and for one that does not. */
async function writeFiles(
  directory: string,
  { firstHostId }: IdRange,
  hostname: string,
  address: string,
  resolvConf: string,
): Promise<Readonly<Record<string, string>>> {
  const hosts = [
    "127.0.0.1 localhost",
    "::1 localhost ip6-localhost ip6-loopback",
    `${address} ${hostNames(hostname)}`,
  ];
  const contents = { hostname: `${hostname}\n`, hosts: `${hosts.join("\n")}\n`, "resolv.conf": resolvConf };
  const files = await Promise.all(
    Object.entries(contents).map(async ([name, content]) => {
      const path = join(directory, name);
      await writeFile(path, content, { mode: 0o644 });
      await chown(path, firstHostId, firstHostId);
      return [`/etc/${name}`, path] as const;
    }),
  );
  return Object.fromEntries(files);
}

/** A name with dots is found by its first part too, as it is where the local domain is searched. */
function hostNames(hostname: string): string {
  const [first = hostname] = hostname.split(".");
  return first === hostname ? hostname : `${hostname} ${first}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
