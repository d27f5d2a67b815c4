import type { ProcessStatus } from "@caisson/protocol/rpc-methods";
import { AppError } from "../calls/errors.ts";
import type { Call, Connection } from "../calls/method.ts";
import { startTimer } from "../host/timers.ts";
import { HeldStream } from "../wire/held-stream.ts";
import type { Environment } from "./environment.ts";
import type { OomDetector } from "./oom.ts";
import { pumpInput } from "./process-input.ts";
import { pumpOutput } from "./process-output.ts";
import { goesToGroup, requireSignal } from "./signals.ts";
import { type ProgramOptions, startProgram, statusOf } from "./start-program.ts";

/** Output of one process that is held for `processWait`; more opens the gate (protocol.md 4.4). */
const MAX_HELD_BYTES = 8 * 1024 * 1024;
/** Time after the answer at which the gate opens by itself, unless the client is still sending input. */
const GATE_TIMEOUT_MS = 2_000;
/** Ended processes whose status is remembered. */
const MAX_ENDED = 262_144;
/** Larger than any pid of Linux: numbers from here on stand in for pids that the kernel used before. */
const FIRST_STAND_IN_PID = 2 ** 22 + 1;

/** How a process is started; `spawn`, `spawnDeno` and `spawnDenoRepl` share it. */
export interface SpawnOptions extends Omit<ProgramOptions, "stdin"> {
  readonly stdinStreamId: number | undefined;
  /** How long its output is held for `processWait` at most, counted from the start. Default: 2 s. */
  readonly gateTimeoutMs?: number;
}

/** A process of the sandbox, running or ended. */
export interface SandboxProcess {
  /** Positive, and never given to another process during the sandbox's life. */
  readonly pid: number;
  /** The kernel's pid; it means this process only while it runs. */
  readonly osPid: number;
  readonly stdoutStreamId: number | null;
  readonly stderrStreamId: number | null;
  /** Resolves when the process has ended. Never rejects. */
  readonly exited: Promise<ProcessStatus>;
  readonly isRunning: boolean;
  /** Ends both output streams without a word to the client, and returns the end of what they held. */
  discardOutput(): string;
}

/** Output that waits for the client's `processWait`. */
interface Gate {
  readonly connection: Connection;
  readonly release: () => void;
}

type Child = Deno.ChildProcess;

/** All processes that clients started, on whatever connection. */
export class ProcessTable {
  readonly #environment: Environment;
  readonly #defaultDirectory: string;
  readonly #oom: OomDetector;
  readonly #running = new Map<number, SandboxProcess>();
  readonly #ended = new Map<number, ProcessStatus>();
  readonly #gates = new Map<number, Gate>();
  #nextStandIn = FIRST_STAND_IN_PID;

  constructor(environment: Environment, defaultDirectory: string, oom: OomDetector) {
    this.#environment = environment;
    this.#defaultDirectory = defaultDirectory;
    this.#oom = oom;
  }

  /**
   * Starts a process in a session and group of its own. Its output streams belong to the call's connection and are held back until
   * `processWait` (protocol.md 4.4). Throws `NotFound`, `PermissionDenied` and the like when it cannot start.
   */
  spawn(options: SpawnOptions, call: Call): SandboxProcess {
    const { connection } = call;
    const killsAtStart = this.#oom.kills();
    const input = options.stdinStreamId === undefined ? null : call.takeStream(options.stdinStreamId);
    const stdin = input === null ? "null" : "piped";
    const child = startProgram(this.#environment, this.#defaultDirectory, { ...options, stdin });
    const pid = this.#pidFor(child.pid);
    const exited = statusOf(child).then(({ code, signal }) => {
      const status = { success: code === 0, code, signal, oom: this.#oom.judge(code, killsAtStart) };
      this.#end(pid, status);
      return status;
    });
    const stdout = options.stdout === "piped" ? holdOutput(child.stdout, connection, () => this.#release(pid)) : null;
    const stderr = options.stderr === "piped" ? holdOutput(child.stderr, connection, () => this.#release(pid)) : null;
    const inputEnded = input === null ? Promise.resolve() : pumpInput(input, child.stdin, exited);
    const outputs = [stdout, stderr].filter((held) => held !== null);
    this.#gate(pid, connection, inputEnded, outputs, options.gateTimeoutMs ?? GATE_TIMEOUT_MS);
    const running = this.#running;
    const started: SandboxProcess = {
      pid,
      osPid: child.pid,
      stdoutStreamId: stdout?.stream.id ?? null,
      stderrStreamId: stderr?.stream.id ?? null,
      exited,
      get isRunning() {
        return running.has(pid);
      },
      discardOutput: () => outputs.map((held) => held.discard()).join(""),
    };
    running.set(pid, started);
    return started;
  }

  /** The process with this pid, if it runs. */
  findRunning(pid: number): SandboxProcess | undefined {
    return this.#running.get(pid);
  }

  /** The process with this pid, ended ones included. Throws the `ENOENT` form of protocol.md 4.4 when there never was one. */
  get(pid: number): SandboxProcess {
    const running = this.#running.get(pid);
    if (running !== undefined) return running;
    const status = this.#ended.get(pid);
    if (status === undefined)
      throw noSuchProcess(`Cannot use process ${pid}: no process with this pid was started here`);
    return {
      pid,
      osPid: pid,
      stdoutStreamId: null,
      stderrStreamId: null,
      exited: Promise.resolve(status),
      isRunning: false,
      discardOutput: () => "",
    };
  }

  /** Resolves when the process has ended. A wait from the connection that started it lets its output go. */
  async wait(pid: number, connection: Connection): Promise<ProcessStatus> {
    const { exited } = this.get(pid);
    if (this.#gates.get(pid)?.connection === connection) this.#release(pid);
    return await exited;
  }

  /** Delivers a signal by name, terminating ones to the whole group. Throws the `ENOENT` form when it has ended. */
  kill(pid: number, signalName: string): void {
    const signal = requireSignal(signalName);
    const running = this.#running.get(pid);
    if (running === undefined) throw noSuchProcess(`Cannot signal process ${pid}: it has ended or never was`);
    try {
      Deno.kill(goesToGroup(signal) ? -running.osPid : running.osPid, signal);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) throw noSuchProcess(`Cannot signal process ${pid}: it has ended`);
      throw error;
    }
  }

  /** The kernel's pid unless it had an earlier process too, which clients may still ask for. */
  #pidFor(osPid: number): number {
    if (!this.#running.has(osPid) && !this.#ended.has(osPid)) return osPid;
    const pid = this.#nextStandIn;
    this.#nextStandIn += 1;
    return pid;
  }

  #gate(
    pid: number,
    connection: Connection,
    inputEnded: Promise<void>,
    outputs: readonly HeldStream[],
    timeoutMs: number,
  ): void {
    const stopTimer = startTimer(timeoutMs, () => void inputEnded.then(() => this.#release(pid)));
    const withdraw = connection.onClose(() => this.#release(pid));
    const release = () => {
      stopTimer();
      withdraw();
      for (const held of outputs) held.release();
    };
    this.#gates.set(pid, { connection, release });
  }

  #release(pid: number): void {
    const gate = this.#gates.get(pid);
    this.#gates.delete(pid);
    gate?.release();
  }

  #end(pid: number, status: ProcessStatus): void {
    this.#running.delete(pid);
    this.#ended.set(pid, status);
    const [oldest] = this.#ended.keys();
    if (this.#ended.size > MAX_ENDED && oldest !== undefined) this.#ended.delete(oldest);
  }
}

function holdOutput(pipe: Child["stdout"], connection: Connection, onFull: () => void): HeldStream {
  const held = new HeldStream(connection.openStream(), MAX_HELD_BYTES, onFull);
  void pumpOutput(pipe, held);
  return held;
}

/** The form by which both clients know an ended process (protocol.md 4.4). */
function noSuchProcess(message: string): AppError {
  return new AppError("TypeError", message, "ENOENT");
}
