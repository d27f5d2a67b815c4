import { type Cgroups, type HasDescriptor, hierarchyOf, type IdRange } from "@caisson/linux";
import { idMappings } from "../network/namespaces.ts";
import type { MountSpec, SandboxLimits } from "../runtime.ts";
import { AGENT_RUN_TARGET, AGENT_TARGET, type AgentBundle } from "./agent/agent-bundle.ts";
import type { SeccompProfile } from "./seccomp/seccomp.ts";

/**
 * What root of the sandbox may do to things that belong to the sandbox. Docker's set without NET_RAW (ping works through unprivileged ICMP
 * sockets), MKNOD (devices cannot be made in a user namespace anyway), AUDIT_WRITE (the kernel takes audit records only from the host)
 * and SETPCAP. `sudo`, `apt-get` and `su` need the identity and ownership ones, SETFCAP lets packages set file capabilities.
 */
export const CAPABILITIES: readonly string[] = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_NET_BIND_SERVICE",
  "CAP_SETFCAP",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SYS_CHROOT",
];

/**
 * Shown as empty: they tell about the host or about other sandboxes, or act on them. For /sys there is no such list: it has only what
 * `SYSTEM_DIRECTORIES` names.
 */
const MASKED_PATHS = [
  "/proc/acpi",
  "/proc/asound",
  "/proc/bus",
  "/proc/cmdline",
  "/proc/diskstats",
  "/proc/driver",
  "/proc/fs",
  "/proc/interrupts",
  "/proc/irq",
  "/proc/kallsyms",
  "/proc/kcore",
  "/proc/keys",
  "/proc/key-users",
  "/proc/kmsg",
  "/proc/kpagecgroup",
  "/proc/kpagecount",
  "/proc/kpageflags",
  "/proc/latency_stats",
  "/proc/mdstat",
  "/proc/modules",
  "/proc/partitions",
  "/proc/sched_debug",
  "/proc/scsi",
  "/proc/slabinfo",
  "/proc/timer_list",
  "/proc/timer_stats",
];

/**
 * What /sys shows of the kernel's: the sandbox's interfaces and the processors. Everything else there is about the whole machine: its disks, with the
 * host's path and the volume of each loop device, and its file systems.
 */
const SYSTEM_DIRECTORIES = ["/sys/class/net", "/sys/devices/virtual/net", "/sys/devices/system"];

const READ_ONLY_PATHS = ["/proc/sys", "/proc/sysrq-trigger"];

/** The sandboxes are victims before the server when the whole host runs out of memory. */
const OOM_SCORE_ADJUSTMENT = 100;

const MIB = 2 ** 20;

export interface ConfigInput {
  readonly hostname: string;
  readonly rootPath: string;
  readonly isRootReadOnly: boolean;
  /** Where the first process begins, made when missing. */
  readonly workingDirectory: string;
  readonly agent: AgentBundle;
  /** The sandbox's own directory for the agent's socket and log. */
  readonly agentRunPath: string;
  /** A sysfs of the sandbox's network. */
  readonly sysfsPath: string;
  /** Files of this sandbox alone, by their path inside, where root may write to them. */
  readonly files: Readonly<Record<string, string>>;
  /** The same for files that nobody inside may change. */
  readonly readOnlyFiles: Readonly<Record<string, string>>;
  /** Data mounts, with owners translated already. */
  readonly mounts: readonly MountSpec[];
  readonly limits: Pick<SandboxLimits, "memoryBytes" | "terminalsMax">;
  /** Of the first process: `NAME=value`. */
  readonly environment: readonly string[];
  readonly cgroupPath: string;
  readonly isRunc: boolean;
  readonly ids: IdRange;
  readonly cgroups: Cgroups;
  /** Paths by which the runtime joins the prepared namespaces. */
  readonly userNamespacePath: string;
  readonly networkNamespacePath: string;
  readonly seccomp: SeccompProfile;
}

/**
 * The path by which an OCI runtime opens a namespace that this process holds. It does not begin with `/proc/<pid>`: runc 1.1.15 takes every
 * path that does for one of process `<pid>` (GetUserNamespaceMappings in its userns package), compares the sandbox's ids with those of this
 * process, and refuses with "both namespace path and non-matching mapping specified".
 */
export function namespacePath(namespace: HasDescriptor): string {
  return `/./proc/${process.pid}/fd/${namespace.fd}`;
}

/** Options of the sandbox's pseudo-terminals, which belong to its group tty. `firstId`: where ids of the sandbox begin for the one who sets them. */
export function terminalOptions(firstId: number): Readonly<Record<string, string>> {
  return { ptmxmode: "0666", mode: "0620", gid: String(firstId + 5) };
}

/** The size of `/dev/shm`. */
export function sharedMemoryBytes({ memoryBytes }: Pick<SandboxLimits, "memoryBytes">): number {
  return Math.floor(memoryBytes / 2);
}

/** The configuration of one sandbox for an OCI runtime (runtime-spec 1.0). */
export function ociConfig(input: ConfigInput): object {
  const bind = (source: string, destination: string, ...options: string[]): object => ({
    destination,
    type: "bind",
    source,
    // Private, because the sources are shared on the host (see oci-runtime.ts) and nothing may spread back to there.
    options: ["bind", "private", "nosuid", "nodev", ...options],
  });
  const pseudo = (destination: string, type: string, ...options: string[]): object => ({
    destination,
    type,
    source: type,
    options: ["nosuid", "noexec", ...options],
  });
  const capabilities = CAPABILITIES;
  return {
    ociVersion: "1.0.2",
    hostname: input.hostname,
    root: { path: input.rootPath, readonly: input.isRootReadOnly },
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      cwd: input.workingDirectory,
      args: input.agent.command,
      env: input.environment,
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      oomScoreAdj: OOM_SCORE_ADJUSTMENT,
      // sudo and su must be able to change users; no gain is possible beyond the bounding set and the user namespace.
      noNewPrivileges: false,
    },
    mounts: [
      pseudo("/proc", "proc", "nodev"),
      pseudo("/dev", "tmpfs", "mode=755", "size=65536"),
      pseudo(
        "/dev/pts",
        "devpts",
        "newinstance",
        ...Object.entries(terminalOptions(0)).map(([name, value]) => `${name}=${value}`),
        `max=${input.limits.terminalsMax}`,
      ),
      pseudo("/dev/shm", "tmpfs", "nodev", "mode=1777", `size=${sharedMemoryBytes(input.limits)}`),
      pseudo("/dev/mqueue", "mqueue", "nodev"),
      { ...pseudo("/run", "tmpfs"), options: ["nosuid", "nodev", "mode=755", `size=${64 * MIB}`] },
      pseudo("/run/lock", "tmpfs", "nodev", "mode=1777", `size=${MIB}`),
      pseudo("/sys", "tmpfs", "nodev", "mode=755", "size=65536", "ro"),
      ...SYSTEM_DIRECTORIES.map((path) => bind(`${input.sysfsPath}${path.slice("/sys".length)}`, path, "ro", "noexec")),
      ...cgroupMounts(input.cgroups, input.cgroupPath),
      bind(input.agent.directory, AGENT_TARGET, "ro"),
      bind(input.agentRunPath, AGENT_RUN_TARGET, "noexec"),
      bind(input.agent.denoPath, "/usr/local/bin/deno", "ro"),
      // Without lxcfs, the paths of the host's swap files.
      bind("/dev/null", "/proc/swaps", "ro", "noexec"),
      ...Object.entries(input.files).map(([target, source]) => bind(source, target, "noexec")),
      ...Object.entries(input.readOnlyFiles).map(([target, source]) => bind(source, target, "ro", "noexec")),
      ...input.mounts.map(({ sourcePath, targetPath, isReadOnly }) =>
        bind(sourcePath, targetPath, isReadOnly ? "ro" : "rw"),
      ),
    ],
    linux: {
      namespaces: [
        { type: "user", path: input.userNamespacePath },
        { type: "network", path: input.networkNamespacePath },
        ...["pid", "mount", "ipc", "uts", "cgroup"].map((type) => ({ type })),
      ],
      // Unmounts by the server must reach a sandbox that is just starting and still sees the server's mounts.
      rootfsPropagation: "rslave",
      maskedPaths: MASKED_PATHS,
      readonlyPaths: READ_ONLY_PATHS,
      // runc insists on joining a cgroup, which is the one that it is in already, and on knowing the ids of the user namespace.
      ...(input.isRunc ? { cgroupsPath: input.cgroupPath, ...ociIdMappings(input.ids) } : {}),
      seccomp: input.seccomp,
    },
  };
}

/**
 * Programs size themselves by the cgroup files, so these are shown read-only. With v1 only the memory and CPU directories of the sandbox,
 * because each hierarchy costs a mount at every start.
 */
function cgroupMounts(cgroups: Cgroups, cgroupPath: string): readonly object[] {
  if (cgroups.layout === "v2") {
    const options = ["nosuid", "noexec", "nodev", "relatime", "ro"];
    return [{ destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options }];
  }
  const shown = ["memory", "cpu"].flatMap((controller) => {
    const hierarchy = hierarchyOf(cgroups, controller);
    return hierarchy === null ? [] : [{ controller, source: `${hierarchy.mountPath}${cgroupPath}` }];
  });
  return shown.map(({ controller, source }) => ({
    destination: `/sys/fs/cgroup/${controller}`,
    type: "bind",
    source,
    options: ["bind", "private", "nosuid", "noexec", "nodev", "ro"],
  }));
}

/** runc compares them with those of the namespace. */
function ociIdMappings(ids: IdRange): object {
  const mapping = idMappings(ids).map(({ firstId, firstHostId, count }) => ({
    containerID: firstId,
    hostID: firstHostId,
    size: count,
  }));
  return { uidMappings: mapping, gidMappings: mapping };
}
