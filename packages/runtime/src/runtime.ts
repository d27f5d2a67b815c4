import type { Socket } from "node:net";

/**
 * The runtime seam: isolated Linux environments over directories that the caller has mounted.
 *
 * The runtime translates ownership (idmapped mounts), stacks the ephemeral root, makes the network, cgroup and namespaces, starts the
 * agent and waits until it answers. It knows nothing of volumes, tenants or lifetimes.
 *
 * `release` undoes everything that `start` made, whatever part of it exists, and is success when there is nothing; `stop` is the part of it that others
 * wait for.
 */
export interface SandboxRuntime {
  readonly name: string;
  /** Sandboxes that this host has room for at a time. One more is `SERVER_FULL`; it waits where one of them has stopped and is about to be released. */
  readonly placeCount: number;
  /** Why there are fewer places than were asked for, and what to do, as the end of a sentence; null: there are as many. */
  readonly placeBound: string | null;
  /**
   * Starts the sandbox and resolves when its agent accepts connections. On failure or abort everything is undone first; the caller calls `release`
   * all the same, which goes on where that failed.
   */
  start(spec: SandboxSpec, signal?: AbortSignal): Promise<RunningSandbox>;
  /**
   * Ends the sandbox: lets the agent close its sockets (bounded) and kills every process. When it resolves, none of them lives and nothing holds the
   * directories of the spec any more. It keeps its place until `release`. Never started, or stopped already, is success.
   */
  stop(id: string): Promise<void>;
  /**
   * Gives back what only this host misses: the sandbox's place, network, cgroup and files. Stops it first where that has not happened. Nothing there is
   * success.
   */
  release(id: string): Promise<void>;
  /**
   * Ids of the sandboxes that were started and are not released yet. Nothing of an earlier run is among them: opening a runtime
   * removes what such a run left.
   */
  list(): Promise<readonly string[]>;
  /** Releases what the runtime keeps ready (network, prepared namespaces). Running sandboxes are stopped. */
  close(): Promise<void>;
}

export interface SandboxSpec {
  /** `sbx_<region>_<20>`. */
  readonly id: string;
  /** What it is called inside. Default: its id with `-` for `_`. */
  readonly hostname?: string;
  readonly root: RootSpec;
  /** In mount order: a mount below another one comes after it. */
  readonly mounts: readonly MountSpec[];
  readonly limits: SandboxLimits;
  /** Variables of the sandbox environment, over the defaults (PATH, HOME, LANG, …). */
  readonly env: Readonly<Record<string, string>>;
  /** What the sandbox may reach and which secrets go out in its requests. Default: every public address, no secrets. */
  readonly egress?: EgressPolicy;
}

/** Enforced before anything runs in the sandbox. Blocked networks and the host stay closed whatever it says. */
export interface EgressPolicy {
  /** Destinations that the sandbox may reach, over TCP; null: no restriction. Names resolve only when a rule has them. */
  readonly allow: readonly EgressRule[] | null;
  readonly secrets: readonly EgressSecret[];
}

/** One destination. `subdomains`: any name below `host`, not `host` itself. Sandboxes have no IPv6: `ipv6` is never reached. */
export interface EgressRule {
  readonly kind: "host" | "subdomains" | "ipv4" | "ipv6";
  /** Lower case, without `*.` and without brackets. */
  readonly host: string;
  /** Null: any port. */
  readonly port: number | null;
}

/** A placeholder that is replaced by the value in HTTPS requests to the hosts. The value stays in the server's memory. */
export interface EgressSecret {
  readonly placeholder: string;
  readonly value: string;
  /** Names, or `*.name` for any name below. */
  readonly hosts: readonly string[];
}

/**
 * `ephemeral`: `lowerPath` is a read-only mounted root shared with others; writes go to `scratchPath`, an empty writable directory.
 * `persistent`: `path` is a read-write mounted root that belongs to this sandbox alone.
 */
export type RootSpec =
  | { readonly kind: "ephemeral"; readonly lowerPath: string; readonly scratchPath: string }
  | { readonly kind: "persistent"; readonly path: string };

export interface MountSpec {
  /** Mounted directory on the host. */
  readonly sourcePath: string;
  /** Absolute path inside; made when missing. */
  readonly targetPath: string;
  readonly isReadOnly: boolean;
}

export interface SandboxLimits {
  readonly memoryBytes: number;
  readonly cpuCount: number;
  /** Processes and threads; a sandbox gets fewer where the host has not so many for each. */
  readonly pidsMax: number;
  /** Pseudo-terminals, likewise. */
  readonly terminalsMax: number;
}

/** `out-of-memory`: the kernel killed it, in a sandbox where it had to kill for want of memory. */
export type ExitCause = "exited" | "out-of-memory";

export interface RunningSandbox {
  readonly id: string;
  /**
   * The agent's HTTP and WebSocket server. To be read at the instant of each connection, and not kept: once the sandbox ends it leads nowhere, and
   * what it was before may lead to the agent of another.
   */
  readonly agentSocketPath: string;
  /**
   * Connects to a TCP port as a program inside would: on 127.0.0.1, then `::1`, then the sandbox's own address, whichever takes connections, or
   * on `address` alone, which is one of those. Neither the agent nor anything else inside has a part in it but the program that listens. Throws
   * an error with the code `ECONNREFUSED` when none does.
   */
  connect(port: number, address?: string): Promise<Socket>;
  /** Resolves when the sandbox's first process is gone, for whatever reason, with what is known of it. Never rejects. */
  readonly exited: Promise<ExitCause>;
  /** Why the sandbox ends by itself, when it does; null while its first process takes connections. Answers at once in that case. */
  ownEnd(): Promise<ExitCause | null>;
  /** Duration of each step of the start, in order, in milliseconds: the trace of the create path. */
  readonly trace: readonly { readonly step: string; readonly durationMs: number }[];
}
