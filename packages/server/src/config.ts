import { readFileSync, statSync } from "node:fs";
import { BlockList, isIP } from "node:net";
import { isAbsolute, join, resolve } from "node:path";
import {
  CaissonError,
  type DiskClass,
  formatPeriod,
  type Labels,
  MAX_EVERY_MS,
  parsePeriod,
  parseSize,
  requireLabels,
} from "@caisson/model";
import type { ReplicatedPoolSettings } from "@caisson/node";
import { PLACES_DEFAULT, parseSandboxSubnet } from "@caisson/runtime";
import { parse, TomlError } from "smol-toml";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import type { TransferLimits } from "./app/transfers/transfer-places.ts";
import { describeProblems } from "./config-problem.ts";
import {
  parseSnapshotStore,
  type SnapshotStoreConfig,
  SnapshotStoreSchema,
} from "./snapshot-store/snapshot-store-config.ts";

/** Every setting with its default; `caisson.example.toml` documents each one. */
export interface Config {
  readonly dataDirectory: string;
  /** Where the settings are, or would be. */
  readonly configPath: string;
  readonly listenHost: string;
  readonly listenPort: number;
  /** Origin that clients use, for links in answers; null: taken from each request's Host header. */
  readonly publicUrl: string | null;
  /** Files of a certificate and its key; null: without TLS. */
  readonly tls: TlsConfig | null;
  /** Whose X-Forwarded-Host and X-Forwarded-Proto are believed. */
  readonly trustedProxies: BlockList;
  readonly logLevel: string;
  /** Regions that this server serves, the default one first. */
  readonly regions: readonly string[];
  readonly cacheDirectory: string;
  /** URL of a PostgreSQL database; null: SQLite in the data directory. */
  readonly databaseUrl: string | null;
  readonly node: NodeConfig;
  readonly pool: PoolConfig;
  readonly volumes: VolumeLimits;
  /** How many exports and imports of snapshots run at a time. */
  readonly transfers: TransferLimits;
  readonly sandboxes: SandboxLimitsConfig;
  readonly network: NetworkConfig;
  readonly expose: ExposeConfig;
  /** Null: switched off. */
  readonly ssh: SshConfig | null;
  /** Null: snapshots stay where they are. */
  readonly snapshotStore: SnapshotStoreConfig | null;
}

/** What this machine is among several. */
export interface NodeConfig {
  /** Host name or address, where other machines reach it; null: the host's own name. */
  readonly address: string | null;
  readonly labels: Labels;
}

/** Where SSH clients reach sandboxes. */
export interface SshConfig {
  readonly listenHost: string;
  readonly listenPort: number;
  /** As `ExposeConfig.isPortFree`. */
  readonly isPortFree: boolean;
  /** What clients are told to connect to. */
  readonly hostname: string;
  /** The port that clients are told; null: the one that is listened on. */
  readonly publicPort: number | null;
  /** Of one sandbox, at a time. */
  readonly connectionsPerSandbox: number;
}

/** Where servers inside sandboxes are reached, under names of their own. */
export interface ExposeConfig {
  readonly listenHost: string;
  readonly listenPort: number;
  /** Whether another port of that address does where this one is taken: nobody asked for it. */
  readonly isPortFree: boolean;
  /** Names are made below it. */
  readonly domain: string;
  /** The port in addresses; null: the one that is listened on. */
  readonly publicPort: number | null;
  /** `local`: a certificate by an authority of this server's own; `proxy`: a proxy in front ends TLS. */
  readonly tls: "local" | "proxy" | TlsConfig;
  /** Of one sandbox, at a time. */
  readonly connectionsPerSandbox: number;
  /** Of one sandbox, over time. */
  readonly requestsPerSecond: number;
}

export interface TlsConfig {
  readonly certPath: string;
  readonly keyPath: string;
}

export interface NetworkConfig {
  readonly isPrivateAllowed: boolean;
  /** IPv4 name servers for sandboxes; absent: those of the host. */
  readonly nameServers?: readonly string[];
  /** Where the addresses of sandboxes are; absent: in networks that the host does not use. */
  readonly subnet?: string;
}

export interface PoolConfig {
  /** Size of the pool file where the data directory has no reflink; null: what the disk allows. */
  readonly sizeBytes: number | null;
  /** What the pool keeps free for scratch disks and metadata, on each disk; null: by its size. */
  readonly headroomBytes: number | null;
  /** Further disks; each region has a directory of its own on each. */
  readonly disks: readonly PoolDiskConfig[];
  /** Where replicated volumes and snapshots lie. Null: there can be none. */
  readonly replicated: ReplicatedPoolSettings | null;
}

export interface PoolDiskConfig {
  readonly directory: string;
  /** As `PoolConfig.sizeBytes`, of the part on this disk. */
  readonly sizeBytes: number | null;
}

export type PoolSizes = Pick<PoolConfig, "sizeBytes" | "disks">;

export interface VolumeLimits {
  readonly minCapacityBytes: number;
  readonly maxCapacityBytes: number;
  /** How long a deleted volume or snapshot can be restored. */
  readonly retentionMs: number;
  /** How long it can be restored also when the pool needs room. */
  readonly retentionFloorMs: number;
  /** How often a schedule may at most make a snapshot of a volume. */
  readonly minEveryMs: number;
  /** How often the usage of attached volumes is measured. */
  readonly usageIntervalMs: number;
  /** Of volumes that are created without one. */
  readonly defaultClass: DiskClass;
  /** Whether a virtual machine's processors are kept awake while volumes are written with many syncs. */
  readonly isAwakeForSyncs: boolean;
}

export interface SandboxLimitsConfig {
  /** Of all organizations together. Default: as many as one network of 256 addresses has places for. */
  readonly max: number;
  /** Memory of all sandboxes together, as they asked for it; null: they share what the host has. */
  readonly maxMemoryBytes: number | null;
  /** The last places, for organizations that run fewer than two sandboxes; null: a tenth. */
  readonly keptPlaces: number | null;
  readonly maxPerOrganization: number;
  readonly cpuCount: number;
  readonly pidsMax: number;
  readonly terminalsMax: number;
  /** What a sandbox may do with each of its disks every second, in each direction; null: as much as there is. */
  readonly diskLimits: { readonly bytesPerSecond?: number; readonly operationsPerSecond?: number } | null;
  readonly scratchBytes: number;
  /** Scratch disks kept formatted and mounted, so that a create does not wait for one. Default: at least as many as wait. */
  readonly preparedScratchDisks: number;
  /** Containers kept waiting with their agents started, so that most of a create is done. */
  readonly warmCount: number;
  /** How long a sandbox may take until it answers. */
  readonly startTimeoutMs: number;
  /** What programs that take SIGTERM themselves get to save their state at the end. */
  readonly stopGraceMs: number;
  /** How long a create waits for a volume whose holder is ending. */
  readonly holderWaitMs: number;
  /** How long stopped sandboxes stay in the list. */
  readonly historyMs: number;
}

const closed = { additionalProperties: false };
const PositiveInteger = Type.Integer({ minimum: 1 });
/** Below that a sandbox cannot even start in time. */
const MIN_DISK_OPERATIONS = 100;
const MIN_DISK_BANDWIDTH = 1_000_000;
/** The smallest headroom with which sandboxes start in a full pool. */
const MIN_HEADROOM = 64 * 2 ** 20;
/** A server that stops waits for them too. Ends that take longer than 8 s go on in the background. */
const MAX_STOP_GRACE_SECONDS = 60;
const HTTPS_PORT = 443;
const DOMAIN = /^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** A user, a pool or a namespace of Ceph. */
const CEPH_NAME = "^[A-Za-z0-9_.-]{1,128}$";
const Size = Type.Union([Type.Integer({ minimum: 1 }), Type.String()]);

const FileSchema = Type.Object(
  {
    listen: Type.Optional(Type.String()),
    public_url: Type.Optional(Type.String()),
    tls: Type.Optional(Type.Object({ cert: Type.Optional(Type.String()), key: Type.Optional(Type.String()) }, closed)),
    trusted_proxies: Type.Optional(Type.Array(Type.String())),
    log_level: Type.Optional(
      Type.Union([
        Type.Literal("trace"),
        Type.Literal("debug"),
        Type.Literal("info"),
        Type.Literal("warn"),
        Type.Literal("error"),
      ]),
    ),
    regions: Type.Optional(Type.Array(Type.String({ pattern: "^[a-z]{3}$" }), { minItems: 1, uniqueItems: true })),
    cache: Type.Optional(Type.String()),
    database: Type.Optional(Type.String()),
    node: Type.Optional(
      Type.Object(
        {
          address: Type.Optional(Type.String({ minLength: 1 })),
          labels: Type.Optional(Type.Record(Type.String(), Type.String())),
        },
        closed,
      ),
    ),
    pool: Type.Optional(
      Type.Object(
        {
          size: Type.Optional(Size),
          headroom: Type.Optional(Size),
          disks: Type.Optional(
            Type.Array(Type.Object({ directory: Type.String(), size: Type.Optional(Size) }, closed)),
          ),
        },
        closed,
      ),
    ),
    replicated: Type.Optional(
      Type.Object(
        {
          directory: Type.Optional(Type.String()),
          size: Type.Optional(Size),
          conf: Type.Optional(Type.String()),
          user: Type.Optional(Type.String({ pattern: CEPH_NAME })),
          pool: Type.Optional(Type.String({ pattern: CEPH_NAME })),
          namespace: Type.Optional(Type.String({ pattern: CEPH_NAME })),
        },
        closed,
      ),
    ),
    volumes: Type.Optional(
      Type.Object(
        {
          min_capacity: Type.Optional(Size),
          max_capacity: Type.Optional(Size),
          retention_hours: Type.Optional(Type.Number({ minimum: 0 })),
          retention_floor_hours: Type.Optional(Type.Number({ minimum: 0 })),
          min_every: Type.Optional(Type.String()),
          usage_interval_seconds: Type.Optional(Type.Number({ minimum: 1 })),
          default_class: Type.Optional(Type.Union([Type.Literal("local"), Type.Literal("replicated")])),
          awake_for_syncs: Type.Optional(Type.Boolean()),
          transfers: Type.Optional(PositiveInteger),
          transfers_per_organization: Type.Optional(PositiveInteger),
        },
        closed,
      ),
    ),
    sandboxes: Type.Optional(
      Type.Object(
        {
          max: Type.Optional(PositiveInteger),
          max_memory: Type.Optional(Size),
          kept_places: Type.Optional(Type.Integer({ minimum: 0 })),
          max_per_organization: Type.Optional(PositiveInteger),
          cpus: Type.Optional(Type.Number({ minimum: 0.1 })),
          pids: Type.Optional(Type.Integer({ minimum: 64 })),
          terminals: Type.Optional(PositiveInteger),
          disk_bandwidth: Type.Optional(Size),
          disk_operations: Type.Optional(Type.Integer({ minimum: MIN_DISK_OPERATIONS })),
          scratch: Type.Optional(Size),
          prepared_scratch_disks: Type.Optional(Type.Integer({ minimum: 0, maximum: 64 })),
          warm_sandboxes: Type.Optional(Type.Integer({ minimum: 0, maximum: 64 })),
          start_timeout_seconds: Type.Optional(Type.Number({ minimum: 1 })),
          stop_grace_seconds: Type.Optional(Type.Number({ minimum: 0, maximum: MAX_STOP_GRACE_SECONDS })),
          holder_wait_seconds: Type.Optional(Type.Number({ minimum: 0 })),
          history_hours: Type.Optional(Type.Number({ minimum: 0 })),
        },
        closed,
      ),
    ),
    expose: Type.Optional(
      Type.Object(
        {
          listen: Type.Optional(Type.String()),
          domain: Type.Optional(Type.String()),
          public_port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
          cert: Type.Optional(Type.String()),
          key: Type.Optional(Type.String()),
          behind_tls_proxy: Type.Optional(Type.Boolean()),
          connections_per_sandbox: Type.Optional(PositiveInteger),
          requests_per_second: Type.Optional(PositiveInteger),
        },
        closed,
      ),
    ),
    ssh: Type.Optional(
      Type.Object(
        {
          enabled: Type.Optional(Type.Boolean()),
          listen: Type.Optional(Type.String()),
          hostname: Type.Optional(Type.String()),
          public_port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
          connections_per_sandbox: Type.Optional(PositiveInteger),
        },
        closed,
      ),
    ),
    snapshot_store: Type.Optional(SnapshotStoreSchema),
    network: Type.Optional(
      Type.Object(
        {
          allow_private: Type.Optional(Type.Boolean()),
          name_servers: Type.Optional(Type.Array(Type.String({ format: "ipv4" }), { minItems: 1 })),
          subnet: Type.Optional(Type.String()),
        },
        closed,
      ),
    ),
  },
  closed,
);
type ConfigFile = Static<typeof FileSchema>;

const HOUR_MS = 3_600_000;

export interface ConfigOverrides {
  readonly dataDirectory?: string | undefined;
  readonly listen?: string | undefined;
  /** Default: `caisson.toml` in the data directory, if it is there. */
  readonly configPath?: string | undefined;
}

/** Reads the settings: command line over file over defaults. Throws `INVALID_CONFIG` that names every setting that is wrong. */
export function loadConfig(overrides: ConfigOverrides, environment: NodeJS.ProcessEnv): Config {
  requireNotEmpty("--data", overrides.dataDirectory);
  requireNotEmpty("--config", overrides.configPath);
  const dataDirectory = overrides.dataDirectory ?? "/var/lib/caisson";
  const configPath = overrides.configPath ?? join(dataDirectory, "caisson.toml");
  const file = readConfigFile(configPath, overrides.configPath !== undefined);
  const warmCount = file.sandboxes?.warm_sandboxes ?? 4;
  const problems: CaissonError[] = [];
  /** Goes on after what is wrong with one part, so that all of it is told at once. */
  const read = <T>(part: () => T): T => {
    try {
      return part();
    } catch (error) {
      if (!(error instanceof CaissonError)) throw error;
      problems.push(error);
      // Nobody sees it: where there are problems, there is no result.
      return undefined as T;
    }
  };
  const listen = read(() => parseListen(overrides.listen ?? file.listen ?? "127.0.0.1:8484"));
  const config: Config = {
    dataDirectory,
    configPath,
    listenHost: listen?.[0],
    listenPort: listen?.[1],
    publicUrl: read(() => parsePublicUrl(file)),
    tls: read(() => parseTls(file)),
    trustedProxies: read(() => parseProxies(file.trusted_proxies ?? [])),
    logLevel: file.log_level ?? "info",
    regions: file.regions ?? ["ord"],
    cacheDirectory: file.cache ?? environment.CAISSON_CACHE ?? "/var/cache/caisson",
    databaseUrl: file.database ?? null,
    node: { address: file.node?.address ?? null, labels: read(() => parseNodeLabels(file)) },
    pool: {
      ...read(() => poolSizesOf(file)),
      headroomBytes: read(() => parseHeadroomSetting(file)),
      replicated: read(() => parseReplicated(file)),
    },
    volumes: {
      ...read(() => parseCapacities(file)),
      retentionMs: (file.volumes?.retention_hours ?? 24) * HOUR_MS,
      retentionFloorMs: (file.volumes?.retention_floor_hours ?? 1) * HOUR_MS,
      minEveryMs: read(() => parseMinEvery(file)),
      usageIntervalMs: (file.volumes?.usage_interval_seconds ?? 60) * 1000,
      defaultClass: file.volumes?.default_class ?? "local",
      isAwakeForSyncs: file.volumes?.awake_for_syncs ?? true,
    },
    transfers: {
      max: file.volumes?.transfers ?? 8,
      maxPerOrganization: file.volumes?.transfers_per_organization ?? 2,
    },
    sandboxes: {
      max: file.sandboxes?.max ?? PLACES_DEFAULT,
      maxMemoryBytes: read(() =>
        file.sandboxes?.max_memory === undefined ? null : sizeOf("sandboxes.max_memory", file.sandboxes.max_memory),
      ),
      keptPlaces: file.sandboxes?.kept_places ?? null,
      maxPerOrganization: file.sandboxes?.max_per_organization ?? 250,
      cpuCount: file.sandboxes?.cpus ?? 2,
      pidsMax: file.sandboxes?.pids ?? 4096,
      terminalsMax: file.sandboxes?.terminals ?? 64,
      diskLimits: read(() => parseDiskLimits(file)),
      scratchBytes: read(() => sizeOf("sandboxes.scratch", file.sandboxes?.scratch ?? "10GB")),
      preparedScratchDisks: file.sandboxes?.prepared_scratch_disks ?? Math.max(4, warmCount),
      warmCount,
      startTimeoutMs: (file.sandboxes?.start_timeout_seconds ?? 45) * 1000,
      stopGraceMs: (file.sandboxes?.stop_grace_seconds ?? 2) * 1000,
      holderWaitMs: (file.sandboxes?.holder_wait_seconds ?? 8) * 1000,
      historyMs: (file.sandboxes?.history_hours ?? 24) * HOUR_MS,
    },
    network: {
      isPrivateAllowed: file.network?.allow_private ?? false,
      ...(file.network?.name_servers === undefined ? {} : { nameServers: file.network.name_servers }),
      ...read(() => parseSubnetSetting(file)),
    },
    expose: read(() => parseExpose(file)),
    ssh: read(() => parseSsh(file)),
    snapshotStore: read(() => parseSnapshotStore(file.snapshot_store)),
  };
  const [first, ...others] = problems;
  if (first === undefined) return config;
  if (others.length === 0) throw first;
  const all = problems.map(({ message }) => `\n  ${message}`).join("");
  throw new CaissonError("INVALID_CONFIG", `The settings have ${problems.length} problems:${all}`, { cause: first });
}

/** An empty path would be the current directory. */
function requireNotEmpty(option: string, path: string | undefined): void {
  if (path === "") throw new CaissonError("INVALID_CONFIG", `${option} is empty: give a path, or leave it away`);
}

function parseSubnetSetting({ network }: ConfigFile): Pick<NetworkConfig, "subnet"> {
  if (network?.subnet === undefined) return {};
  parseSandboxSubnet(network.subnet);
  return { subnet: network.subnet };
}

function parseNodeLabels({ node }: ConfigFile): Labels {
  try {
    return requireLabels(node?.labels ?? {});
  } catch (error) {
    throw new CaissonError(
      "INVALID_CONFIG",
      `The setting node.labels: ${String(error instanceof Error ? error.message : error)}`,
      {
        cause: error,
      },
    );
  }
}

function parseExpose({ expose = {} }: ConfigFile): ExposeConfig {
  const [listenHost, listenPort] = parseListen(expose.listen ?? "127.0.0.1:8443", " for previews (expose.listen)");
  const domain = expose.domain ?? "caisson.localhost";
  if (!DOMAIN.test(domain) || domain.length > 200) {
    throw new CaissonError(
      "INVALID_CONFIG",
      `expose.domain is ${JSON.stringify(domain)}: give a domain name in lower case without "*." and port, for example "previews.example.com"`,
    );
  }
  const tls = parseExposeTls(expose);
  return {
    listenHost,
    listenPort,
    isPortFree: expose.listen === undefined && tls === "local",
    domain,
    publicPort: expose.public_port ?? (tls === "proxy" ? HTTPS_PORT : null),
    tls,
    connectionsPerSandbox: expose.connections_per_sandbox ?? 512,
    requestsPerSecond: expose.requests_per_second ?? 2000,
  };
}

function parseExposeTls({
  cert,
  key,
  behind_tls_proxy: isBehindProxy,
}: NonNullable<ConfigFile["expose"]>): ExposeConfig["tls"] {
  if (cert === undefined && key === undefined) return isBehindProxy === true ? "proxy" : "local";
  if (cert === undefined || key === undefined || isBehindProxy === true) {
    throw new CaissonError(
      "INVALID_CONFIG",
      "expose: give cert and key, or behind_tls_proxy = true where a proxy has the certificate, or neither for a certificate by this server's own authority",
    );
  }
  return { certPath: resolve(cert), keyPath: resolve(key) };
}

function parseSsh({ ssh = {}, public_url: publicUrl }: ConfigFile): SshConfig | null {
  if (ssh.enabled === false) return null;
  const [listenHost, listenPort] = parseListen(ssh.listen ?? "127.0.0.1:2222", " for SSH (ssh.listen)");
  const isWildcard = listenHost === "0.0.0.0" || listenHost === "::";
  const publicHost = publicUrl === undefined ? undefined : URL.parse(publicUrl)?.hostname;
  const hostname = ssh.hostname ?? (isWildcard ? publicHost : listenHost);
  if (hostname === undefined) {
    throw new CaissonError(
      "INVALID_CONFIG",
      "ssh.hostname is missing: with ssh.listen on every address, say by which name or address clients reach this machine",
    );
  }
  if (isIP(hostname) === 0 && !DOMAIN.test(hostname)) {
    throw new CaissonError(
      "INVALID_CONFIG",
      `ssh.hostname is ${JSON.stringify(hostname)}: give a host name in lower case or an address, without a port`,
    );
  }
  return {
    listenHost,
    listenPort,
    isPortFree: ssh.listen === undefined,
    hostname,
    publicPort: ssh.public_port ?? null,
    connectionsPerSandbox: ssh.connections_per_sandbox ?? 32,
  };
}

/** The sizes of the pool files that the settings name now. Throws `INVALID_CONFIG`. */
export function readPoolSizes(configPath: string): PoolSizes {
  return poolSizesOf(readConfigFile(configPath, false));
}

function poolSizesOf({ pool }: ConfigFile): PoolSizes {
  const disks = (pool?.disks ?? []).map(({ directory, size }) => ({
    directory: absolutePath("pool.disks", "has the directory", directory),
    sizeBytes: size === undefined ? null : sizeOf(`pool.disks.size of ${directory}`, size),
  }));
  const twice = disks.find(({ directory }, index) => disks.findIndex((disk) => disk.directory === directory) !== index);
  if (twice === undefined)
    return { sizeBytes: pool?.size === undefined ? null : sizeOf("pool.size", pool.size), disks };
  throw new CaissonError("INVALID_CONFIG", `pool.disks names ${twice.directory} twice: give each disk once`);
}

function parseReplicated({ replicated, pool }: ConfigFile): ReplicatedPoolSettings | null {
  if (replicated === undefined) return null;
  const { conf, user, pool: cephPool, namespace } = replicated;
  const isCeph = [conf, user, cephPool, namespace].some((value) => value !== undefined);
  if (isCeph === (replicated.directory !== undefined) || (isCeph && replicated.size !== undefined)) {
    throw new CaissonError(
      "INVALID_CONFIG",
      "replicated: give directory, and size if you like, for a disk that is replicated, or pool, namespace if it has one for you, and conf and user if they are not the usual ones, for a pool of a Ceph cluster",
    );
  }
  if (replicated.directory !== undefined) return parseReplicatedDirectory(replicated.directory, replicated.size, pool);
  if (cephPool === undefined)
    throw new CaissonError(
      "INVALID_CONFIG",
      "replicated.pool is missing: name the pool of the Ceph cluster, for example caisson",
    );
  return {
    conf: absolutePath("replicated.conf", "is", conf ?? "/etc/ceph/ceph.conf"),
    user: user ?? "caisson",
    pool: cephPool,
    ...(namespace === undefined ? {} : { namespace }),
  };
}

function parseReplicatedDirectory(
  given: string,
  size: string | number | undefined,
  pool: ConfigFile["pool"],
): ReplicatedPoolSettings {
  const directory = absolutePath("replicated", "has the directory", given);
  if ((pool?.disks ?? []).some((disk) => resolve(disk.directory) === directory)) {
    throw new CaissonError(
      "INVALID_CONFIG",
      `replicated and pool.disks both name ${directory}: a disk holds local volumes or replicated ones. Remove it from one of them`,
    );
  }
  return { directory, sizeBytes: size === undefined ? null : sizeOf("replicated.size", size) };
}

/** `setting` and `verb` begin the sentence of the error. */
function absolutePath(setting: string, verb: string, path: string): string {
  if (isAbsolute(path)) return resolve(path);
  throw new CaissonError("INVALID_CONFIG", `${setting} ${verb} ${JSON.stringify(path)}: give an absolute path`);
}

function readConfigFile(path: string, isRequired: boolean): ConfigFile {
  let text: string;
  try {
    // Reading a pipe waits for somebody who writes, and reading a device may have no end.
    if (!statSync(path).isFile()) throw new Error("it is not a file: name one that holds the settings");
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (!isRequired && error instanceof Error && "code" in error && error.code === "ENOENT") return {};
    throw new CaissonError(
      "INVALID_CONFIG",
      `Cannot read the configuration file ${path}: ${error instanceof Error ? error.message : String(error)}`,
      {
        cause: error,
      },
    );
  }
  const value = parseToml(path, text);
  if (Value.Check(FileSchema, value)) return value;
  const problems = describeProblems(FileSchema, value, text);
  throw new CaissonError(
    "INVALID_CONFIG",
    `In the configuration file ${path}${problems.length === 1 ? `, ${problems[0]} ` : `:\n  ${problems.join("\n  ")}\n`}(caisson.example.toml shows every setting)`,
  );
}

function parseToml(path: string, text: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    // What follows the first line shows the file, which may hold a password.
    const [reason = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
    const where = error instanceof TomlError ? `, line ${error.line}, column ${error.column}` : "";
    throw new CaissonError(
      "INVALID_CONFIG",
      `In the configuration file ${path}${where}: ${reason.replace("Invalid TOML document: ", "")}. Correct that line: settings are written as in caisson.example.toml`,
    );
  }
}

/** A size in bytes. Throws `INVALID_CONFIG` that names the setting. */
function sizeOf(setting: string, value: string | number): number {
  try {
    return parseSize(value);
  } catch (error) {
    throw new CaissonError(
      "INVALID_CONFIG",
      `The setting ${setting}: ${String(error instanceof Error ? error.message : error)}`,
      {
        cause: error,
      },
    );
  }
}

/** Throws `INVALID_CONFIG` for one that is too small for what it is there for. */
function parseHeadroomSetting({ pool }: ConfigFile): number | null {
  const value = pool?.headroom;
  if (value === undefined) return null;
  const bytes = sizeOf("pool.headroom", value);
  if (bytes >= MIN_HEADROOM) return bytes;
  throw new CaissonError(
    "INVALID_CONFIG",
    `pool.headroom ${JSON.stringify(value)} is too little: sandboxes need it to start in a full pool. Give at least 64MiB`,
  );
}

function parseCapacities({ volumes }: ConfigFile): Pick<VolumeLimits, "minCapacityBytes" | "maxCapacityBytes"> {
  const minCapacityBytes = sizeOf("volumes.min_capacity", volumes?.min_capacity ?? "300MB");
  const maxCapacityBytes = sizeOf("volumes.max_capacity", volumes?.max_capacity ?? "20GB");
  if (minCapacityBytes <= maxCapacityBytes) return { minCapacityBytes, maxCapacityBytes };
  throw new CaissonError(
    "INVALID_CONFIG",
    `volumes.min_capacity (${minCapacityBytes} bytes) is above volumes.max_capacity (${maxCapacityBytes} bytes): no volume could be created. Lower the one or raise the other`,
  );
}

function parseMinEvery({ volumes }: ConfigFile): number {
  const text = volumes?.min_every ?? "1m";
  const everyMs = parsePeriod(text);
  if (everyMs !== null && everyMs <= MAX_EVERY_MS) return everyMs;
  throw new CaissonError(
    "INVALID_CONFIG",
    `volumes.min_every is ${JSON.stringify(text)}: give a period such as "1m", at most ${formatPeriod(MAX_EVERY_MS)}`,
  );
}

function parsePublicUrl({ public_url: text }: ConfigFile): string | null {
  if (text === undefined) return null;
  const url = URL.parse(text);
  if (url !== null && ["http:", "https:"].includes(url.protocol) && `${url.origin}/` === url.href) return url.origin;
  throw new CaissonError(
    "INVALID_CONFIG",
    `public_url is ${JSON.stringify(text)}: give an origin and nothing after it, for example https://caisson.example.com`,
  );
}

function parseTls({ tls, public_url: publicUrl }: ConfigFile): TlsConfig | null {
  const { cert, key } = tls ?? {};
  if (cert === undefined && key === undefined) return null;
  if (cert === undefined || key === undefined) {
    throw new CaissonError(
      "INVALID_CONFIG",
      `tls.${cert === undefined ? "cert" : "key"} is missing: give both files, or none`,
    );
  }
  if (publicUrl?.startsWith("https://") === true) return { certPath: resolve(cert), keyPath: resolve(key) };
  throw new CaissonError(
    "INVALID_CONFIG",
    "tls.cert and tls.key need public_url as well: the https:// origin that the certificate is for, by which clients reach the server",
  );
}

function parseProxies(texts: readonly string[]): BlockList {
  const proxies = new BlockList();
  for (const text of texts) {
    const [address = "", prefix, ...rest] = text.split("/");
    const version = isIP(address);
    const bits = version === 6 ? 128 : 32;
    const length = prefix === undefined ? bits : Number(prefix);
    if (version === 0 || rest.length > 0 || prefix === "" || !Number.isInteger(length) || length < 0 || length > bits) {
      throw new CaissonError(
        "INVALID_CONFIG",
        `trusted_proxies holds ${JSON.stringify(text)}: give addresses or networks, for example "10.0.0.5" or "10.0.0.0/24"`,
      );
    }
    proxies.addSubnet(address, length, version === 6 ? "ipv6" : "ipv4");
  }
  return proxies;
}

function parseDiskLimits({ sandboxes }: ConfigFile): SandboxLimitsConfig["diskLimits"] {
  const { disk_bandwidth: bandwidth, disk_operations: operationsPerSecond } = sandboxes ?? {};
  if (bandwidth === undefined && operationsPerSecond === undefined) return null;
  const operations = operationsPerSecond === undefined ? {} : { operationsPerSecond };
  if (bandwidth === undefined) return operations;
  const bytesPerSecond = sizeOf("sandboxes.disk_bandwidth", bandwidth);
  if (bytesPerSecond >= MIN_DISK_BANDWIDTH) return { ...operations, bytesPerSecond };
  throw new CaissonError(
    "INVALID_CONFIG",
    `sandboxes.disk_bandwidth ${JSON.stringify(bandwidth)} is too little for a sandbox to start: give at least 1MB`,
  );
}

/** `what`: says which address it is, where it is not the one of the server. */
function parseListen(text: string, what = ""): [host: string, port: number] {
  const match = /^(\[[0-9a-fA-F:]+\]|[^:[\]]+):(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (match?.[1] === undefined || port > 65_535) {
    throw new CaissonError(
      "INVALID_CONFIG",
      `Cannot listen on ${JSON.stringify(text)}${what}: give HOST:PORT, for example 127.0.0.1:8484`,
    );
  }
  return [match[1].replace(/^\[|\]$/g, ""), port];
}
