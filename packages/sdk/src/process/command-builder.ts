import type { ChildProcess, ChildProcessOutput, OutputMode, Signal } from "./child-process.ts";
import { SandboxCommandError } from "./command-error.ts";
import { KillSignal } from "./kill-signal.ts";
import { shellText } from "./shell-escape.ts";
import type { SpawnOptions } from "./spawn.ts";

/** What becomes of an output of a shell command. */
export type ShellPipeKind = OutputMode;

/** What a shell command produced. Outputs that were not piped are `null`. */
export type SandboxCommandResult = ChildProcessOutput;

type Spawn = (command: string, options: SpawnOptions) => Promise<ChildProcess>;

interface State {
  readonly isThrowing: boolean;
  readonly isSudo: boolean;
  readonly cwd: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly stdout: ShellPipeKind;
  readonly stderr: ShellPipeKind;
  readonly killSignals: readonly KillSignal[];
  readonly abortSignals: readonly AbortSignal[];
}

/** The exit code of a command that `SIGTERM` ended. */
const TERMINATED = 143;

const INITIAL_STATE: State = {
  isThrowing: true,
  isSudo: false,
  cwd: undefined,
  env: {},
  stdout: "inherit",
  stderr: "inherit",
  killSignals: [],
  abortSignals: [],
};

/**
 * A shell command made by `sandbox.sh`, which runs when it is awaited. Modifiers return a new command and leave this one as it is;
 * all modifiers of a chain take effect.
 *
 * ```ts
 * const files = ["a b.txt", "c.txt"];
 * const text = await sandbox.sh`cat ${files}`.cwd("/data").env("LANG", "C").text();
 * ```
 */
export class SandboxCommandBuilder implements PromiseLike<SandboxCommandResult> {
  readonly #spawn: Spawn;
  readonly #text: () => string;
  readonly #state: State;

  /** @internal */
  constructor(spawn: Spawn, text: () => string, state: State = INITIAL_STATE) {
    this.#spawn = spawn;
    this.#text = text;
    this.#state = state;
  }

  /**
   * Makes a command from a template. A value that cannot be written into a shell command makes the run fail, not the template.
   *
   * @internal
   */
  static fromTemplate(spawn: Spawn, strings: TemplateStringsArray, values: readonly unknown[]): SandboxCommandBuilder {
    return new SandboxCommandBuilder(spawn, () => shellText(strings, values));
  }

  /** Do not throw when the exit code is not zero; look at `result.status` instead. */
  noThrow(value = true): SandboxCommandBuilder {
    return this.#with({ isThrowing: !value });
  }

  /** Run the command through `sudo`. Of several commands in one text, only the first is. */
  sudo(enable = true): SandboxCommandBuilder {
    return this.#with({ isSudo: enable });
  }

  /** The working directory. Default: the sandbox's default directory. */
  cwd(path: string): SandboxCommandBuilder {
    return this.#with({ cwd: path });
  }

  /** Sets an environment variable for the command, beside those set before. */
  env(name: string, value: string): SandboxCommandBuilder {
    return this.#with({ env: { ...this.#state.env, [name]: value } });
  }

  /** What becomes of standard output. Default: `"inherit"`. */
  stdout(kind: ShellPipeKind): SandboxCommandBuilder {
    return this.#with({ stdout: kind });
  }

  /** What becomes of standard error. Default: `"inherit"`. */
  stderr(kind: ShellPipeKind): SandboxCommandBuilder {
    return this.#with({ stderr: kind });
  }

  /**
   * Passes signals on to the command; an `AbortSignal` ends it with `SIGTERM`, and with `SIGKILL` if it still runs five seconds later.
   * Several signals may be given one after another. A command that was ended so fails with the code 143, without waiting for processes
   * that it left behind; the error's `result` has what it wrote until then, and `cause` the reason of the `AbortSignal`.
   */
  signal(killOrAbortSignal: KillSignal | AbortSignal): SandboxCommandBuilder {
    const { killSignals, abortSignals } = this.#state;
    if (killOrAbortSignal instanceof KillSignal)
      return this.#with({ killSignals: [...killSignals, killOrAbortSignal] });
    if (killOrAbortSignal instanceof AbortSignal) {
      return this.#with({ abortSignals: [...abortSignals, killOrAbortSignal] });
    }
    throw new TypeError("Cannot use this as the signal of a command: give a KillSignal or an AbortSignal");
  }

  /** Runs the command and returns what it wrote to standard output, as text. */
  async text(): Promise<string> {
    const result = await this.stdout("piped").result();
    return result.stdoutText ?? "";
  }

  /** Runs the command and reads its standard output as JSON. */
  async json<T = unknown>(): Promise<T> {
    const text = await this.text();
    try {
      return JSON.parse(text) as T;
    } catch (cause) {
      throw new SyntaxError(`Cannot read the command's output as JSON: ${JSON.stringify(text.slice(0, 200))}`, {
        cause,
      });
    }
  }

  /** Runs the command. Throws {@linkcode SandboxCommandError} when its exit code is not zero, unless {@linkcode noThrow} was asked for. */
  async result(): Promise<SandboxCommandResult> {
    const child = await this.spawn();
    const result = await child.output();
    if (this.#state.isThrowing && !result.status.success) {
      throw commandError(result, this.#state.abortSignals.find(({ aborted }) => aborted)?.reason);
    }
    return result;
  }

  /** Starts the command without waiting for its end. */
  async spawn(): Promise<SandboxCommandChild> {
    const { isSudo, cwd, env, stdout, stderr, killSignals, abortSignals } = this.#state;
    const text = this.#text();
    const abortedCode = killSignals.find(({ aborted }) => aborted)?.abortedExitCode;
    if (abortedCode !== undefined) return new SandboxCommandChild(null, neverStarted(abortedCode));

    const signal = abortSignals.length === 0 ? undefined : AbortSignal.any([...abortSignals]);
    let child: ChildProcess;
    try {
      child = await this.#spawn("bash", {
        args: ["-c", isSudo ? `sudo ${text}` : text],
        // Bash itself expands the text, and so reads the user's settings for every command (protocol.md section 6).
        env: { BASH_ENV: "$HOME/.bashrc", ...env },
        stdout,
        stderr,
        ...(cwd === undefined ? {} : { cwd }),
        ...(signal === undefined ? {} : { signal }),
      });
    } catch (error) {
      if (signal?.aborted && error === signal.reason) return new SandboxCommandChild(null, neverStarted(TERMINATED));
      throw error;
    }
    for (const killSignal of killSignals) passOn(killSignal, child);
    return new SandboxCommandChild(child, child.output());
  }

  /** Runs the command; this is what `await` calls. */
  // biome-ignore lint/suspicious/noThenProperty: a command is awaited like a promise, which is the interface to be compatible with.
  then<A = SandboxCommandResult, B = never>(
    onFulfilled?: ((value: SandboxCommandResult) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.result().then(onFulfilled, onRejected);
  }

  #with(change: Partial<State>): SandboxCommandBuilder {
    return new SandboxCommandBuilder(this.#spawn, this.#text, { ...this.#state, ...change });
  }
}

/** A shell command that was started with {@linkcode SandboxCommandBuilder.spawn}. */
export class SandboxCommandChild {
  readonly #child: ChildProcess | null;
  readonly #output: Promise<SandboxCommandResult>;

  /** @internal */
  constructor(child: ChildProcess | null, output: Promise<SandboxCommandResult> | SandboxCommandResult) {
    this.#child = child;
    this.#output = Promise.resolve(output);
    this.#output.catch(() => undefined);
  }

  /** Waits for the end of the command and returns what it produced, whatever its exit code. */
  output(): Promise<SandboxCommandResult> {
    return this.#output;
  }

  /** Sends a signal, `SIGTERM` by default. Does not wait for the end. */
  async kill(signal?: Signal): Promise<void> {
    await this.#child?.kill(signal);
  }
}

/**
 * Forwards signals until the command and its output have ended. One that arrived while the command was being started is not lost, and one
 * that orders it to end is an order not to wait for what it left behind either.
 */
function passOn(signal: KillSignal, child: ChildProcess): void {
  const listener = (name: Signal): void => {
    child.kill(name).catch(() => undefined);
    if (signal.aborted) child.letOutputGo();
  };
  signal.addListener(listener);
  if (signal.aborted) listener("SIGTERM");
  const forget = (): void => signal.removeListener(listener);
  child.ended.then(forget, forget);
}

function neverStarted(code: number): SandboxCommandResult {
  const nothing = new Uint8Array();
  const status = { success: false, code, signal: null, oom: false };
  return { status, stdout: nothing, stderr: nothing, stdoutText: "", stderrText: "" };
}

/** The command itself is not shown, because it may contain secrets. */
function commandError(result: SandboxCommandResult, cause: unknown): SandboxCommandError {
  const { code, oom } = result.status;
  const reason = `Command failed with exit code ${code}${oom ? " (the sandbox ran out of memory)" : ""}`;
  const message = result.stderrText ? `${reason}\n${result.stderrText}` : reason;
  return new SandboxCommandError(message, result, cause === undefined ? {} : { cause });
}
