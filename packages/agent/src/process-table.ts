import type { Call } from "./method.ts";

/** How a process is started; `spawn`, `spawnDeno` and `spawnDenoRepl` share it. */
export interface SpawnOptions {
  readonly command: string;
  readonly args: readonly string[];
  /** Laid over the sandbox environment, or all there is with `clearEnv`. */
  readonly env: Readonly<Record<string, string>>;
  readonly clearEnv: boolean;
  /** Absolute, or relative to the default directory. */
  readonly cwd: string | undefined;
  readonly stdinStreamId: number | undefined;
  readonly stdout: "piped" | "null";
  readonly stderr: "piped" | "null";
}

/** A process of the sandbox, running or ended. */
export interface SandboxProcess {
  /** Positive, and never given to another process during the sandbox's life. */
  readonly pid: number;
  /** The kernel's pid, meaningful while the process runs. */
  readonly osPid: number;
  readonly stdoutStreamId: number | null;
  readonly stderrStreamId: number | null;
  /** Resolves when the process has ended. Never rejects. */
  readonly exited: Promise<ExitStatus>;
  readonly isRunning: boolean;
}

export interface ExitStatus {
  readonly success: boolean;
  readonly code: number;
  readonly signal: string | null;
  readonly oom: "high-confidence" | "low-confidence" | null;
}

export interface ProcessTable {
  /**
   * Starts a process in a session and group of its own. Its output streams belong to the call's connection and are held back until
   * `processWait` (protocol.md 4.4). Throws `NotFound`, `PermissionDenied` and the like when it cannot start.
   */
  spawn(options: SpawnOptions, call: Call): SandboxProcess;
  /** The process with this pid, ended ones included. Throws the `ENOENT` form of protocol.md 4.4 when there never was one. */
  get(pid: number): SandboxProcess;
  /** Delivers a signal by name, terminating ones to the whole group. Throws the `ENOENT` form when it has ended. */
  kill(pid: number, signal: string): void;
}
