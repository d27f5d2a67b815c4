import type { Bytes } from "../internal/bytes.ts";
import type { CallOptions } from "../internal/connection.ts";
import { orAbort } from "../internal/or-abort.ts";
import { untilClosed } from "../internal/until-closed.ts";
import type { ChildProcess, ChildProcessStatus } from "./child-process.ts";
import type { SpawnOptions } from "./spawn.ts";

/** The size of a terminal in characters. */
export interface TerminalSize {
  /** Characters in a row. */
  columns: number;
  /** Rows. */
  rows: number;
}

/** Options of `sandbox.terminal()`. */
export interface TerminalOptions extends Partial<TerminalSize> {
  /** The shell command to run on the terminal. Default: a login shell. */
  command?: string;
  /** The working directory. Default: the sandbox's default directory. */
  cwd?: string | URL;
  /** Environment variables, on top of the sandbox's. Default for `TERM`: `xterm-256color`. */
  env?: Record<string, string>;
  /** Takes the terminal away when it is aborted. */
  signal?: AbortSignal;
}

type Spawn = (command: string, options: SpawnOptions) => Promise<ChildProcess>;

const NEWLINE = 0x0a;
const MAX_DIMENSION = 65_535;

/**
 * A program on a pseudo-terminal in the sandbox: keys go in as they are pressed, Ctrl-C is the byte 3, and what comes out is meant for a
 * screen. End the input to press Ctrl-D for good.
 */
export class Terminal implements AsyncDisposable {
  /** Keys for the program. */
  readonly input: WritableStream<Uint8Array>;
  /** What the program shows. */
  readonly output: ReadableStream<Bytes>;
  /** Resolves when the program has ended. */
  readonly status: Promise<ChildProcessStatus>;
  readonly #spawn: Spawn;
  readonly #child: ChildProcess;
  readonly #device: string;
  #resizing: Promise<void> = Promise.resolve();

  /** @internal */
  constructor(
    spawn: Spawn,
    child: ChildProcess,
    device: string,
    input: WritableStream<Uint8Array>,
    output: ReadableStream<Bytes>,
  ) {
    this.#spawn = spawn;
    this.#child = child;
    this.#device = device;
    this.input = input;
    this.output = output;
    this.status = child.status;
  }

  /** Sets the size; the kernel tells the program in the foreground. Sizes are set in the order of the calls. */
  resize(size: TerminalSize, options: CallOptions = {}): Promise<void> {
    const args = ["-F", this.#device, ...sizeArguments(size)];
    const resizing = this.#resizing.then(async () => {
      const stty = await this.#spawn("stty", { args, stdout: "null", stderr: "null" });
      await stty.status;
    });
    this.#resizing = resizing.catch(() => undefined);
    return orAbort(resizing, options.signal);
  }

  /**
   * Takes the terminal away: the program receives `SIGHUP` from the kernel, as when a window is closed. Does not wait for the end.
   * `script` is killed for that, because it blocks most signals, and takes two seconds to obey `SIGTERM`.
   */
  async kill(): Promise<void> {
    await this.#child.kill("SIGKILL");
  }

  /** Ends the terminal and waits until it has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    await untilClosed(async () => {
      await this.kill();
      await this.status;
    });
  }
}

/**
 * Opens a terminal. The protocol knows pipes only, so `script` of util-linux makes the pseudo-terminal inside and copies between it and
 * its own pipes; the first line of output names the device, by which `stty` later sets the size from outside.
 */
export async function openTerminal(spawn: Spawn, options: TerminalOptions): Promise<Terminal> {
  const { columns = 80, rows = 24, command = "exec bash -l", cwd, env, signal } = options;
  signal?.throwIfAborted();
  const script = `stty ${sizeArguments({ columns, rows }).join(" ")}; tty; ${command}`;
  const child = await spawn("script", {
    args: ["--quiet", "--return", "--flush", "--echo", "always", "--command", script, "/dev/null"],
    env: { TERM: "xterm-256color", SHELL: "/bin/bash", ...env },
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
    ...(cwd === undefined ? {} : { cwd }),
  });
  const { stdin, stdout } = child;
  if (stdin === null || stdout === null) throw new TypeError("The terminal's process has no pipes");
  const stopWatching = killOnAbort(child, signal);
  const { line, rest } = await orAbort(splitFirstLine(stdout), signal);
  if (line.startsWith("/dev/")) return new Terminal(spawn, child, line, stdin, rest);
  stopWatching();
  await child.kill();
  const reason = line || `script ended with the code ${(await child.status).code}`;
  throw new Error(
    `Cannot open a terminal in the sandbox: ${reason}. The root needs bash, and script and stty of Debian`,
  );
}

/** As {@linkcode Terminal.kill}, when the signal is aborted. Returns what ends the attention to it. */
function killOnAbort(child: ChildProcess, signal: AbortSignal | undefined): () => void {
  const kill = (): void => void child.kill("SIGKILL").catch(() => undefined);
  const forget = (): void => signal?.removeEventListener("abort", kill);
  if (signal?.aborted) kill();
  signal?.addEventListener("abort", kill, { once: true });
  child.status.then(forget, forget);
  return forget;
}

function sizeArguments({ columns, rows }: TerminalSize): string[] {
  for (const number of [columns, rows]) {
    if (!Number.isInteger(number) || number < 1 || number > MAX_DIMENSION) {
      throw new RangeError(`Invalid terminal size ${columns}x${rows}: give whole numbers from 1 to ${MAX_DIMENSION}`);
    }
  }
  return ["rows", String(rows), "cols", String(columns)];
}

/** Reads up to the first line end; `rest` is the stream of everything behind it. */
async function splitFirstLine(
  source: ReadableStream<Bytes>,
): Promise<{ readonly line: string; readonly rest: ReadableStream<Bytes> }> {
  const reader = source.getReader();
  let head: number[] = [];
  for (;;) {
    const { value } = await reader.read();
    head = [...head, ...(value ?? [])];
    const end = head.indexOf(NEWLINE);
    if (value !== undefined && end < 0) continue;
    const line = new TextDecoder().decode(new Uint8Array(end < 0 ? head : head.slice(0, end)));
    return { line: line.trim(), rest: resume(new Uint8Array(end < 0 ? [] : head.slice(end + 1)), reader) };
  }
}

function resume(first: Bytes, reader: ReadableStreamDefaultReader<Bytes>): ReadableStream<Bytes> {
  return new ReadableStream<Bytes>(
    {
      start: (controller) => {
        if (first.byteLength > 0) controller.enqueue(first);
      },
      pull: async (controller) => {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
