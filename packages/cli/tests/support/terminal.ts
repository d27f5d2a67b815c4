import { type ChildProcessWithoutNullStreams, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { promisify } from "node:util";
import { CAISSON, type Environment } from "./run-caisson.ts";

const DEADLINE_MS = 30_000;
const run = promisify(execFile);

/** The command line on a real pseudo-terminal, which `script` of util-linux makes. */
export class Terminal implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  #text = "";
  #searchedTo = 0;

  private constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child;
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      this.#text += text;
    });
  }

  /** Runs a command on a terminal of 24 rows and the given columns. `then` is shell text for what follows it there. */
  static start(words: readonly string[], columns: number, environment: Environment, then = ""): Terminal {
    const command = [...CAISSON, ...words].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
    const line = `stty rows 24 cols ${columns}; tty; ${then === "" ? "exec " : ""}${command}${then}`;
    const env = { PATH: process.env.PATH ?? "", TERM: "xterm-256color", ...environment };
    const child = spawn(
      "script",
      ["--quiet", "--return", "--flush", "--echo", "always", "--command", line, "/dev/null"],
      { env },
    );
    return new Terminal(child);
  }

  type(text: string): void {
    this.#child.stdin.write(text);
  }

  /** Waits until the terminal shows what matches, behind what was waited for before, and returns the match. */
  async waitFor(pattern: RegExp): Promise<RegExpExecArray> {
    const ended = new AbortController();
    const onEnd = (): void => ended.abort();
    this.#child.stdout.once("end", onEnd);
    const signal = AbortSignal.any([AbortSignal.timeout(DEADLINE_MS), ended.signal]);
    for (;;) {
      const match = pattern.exec(this.#text.slice(this.#searchedTo));
      if (match !== null) {
        this.#child.stdout.off("end", onEnd);
        this.#searchedTo += match.index + match[0].length;
        return match;
      }
      await once(this.#child.stdout, "data", { signal }).catch((cause: unknown) => {
        throw new Error(`The terminal never showed ${pattern}:\n${this.#text}`, { cause });
      });
    }
  }

  /** Everything that was shown, with the line ends of files. */
  get text(): string {
    return this.#text.replaceAll("\r\n", "\n");
  }

  /** Changes the size of the window; the kernel then tells the program. */
  async resize(terminal: string, columns: number, rows: number): Promise<void> {
    await run("stty", ["-F", terminal, "rows", String(rows), "cols", String(columns)]);
  }

  /** Sends a signal to the command line itself, which the shell on the terminal runs. */
  async signalCommand(signal: NodeJS.Signals): Promise<void> {
    const { stdout } = await run("ps", ["-o", "pid=,ppid=,args=", "-A"]);
    const processes = stdout.split("\n").map((line) => line.trim().split(/ +/));
    const shell = processes.find(([, parent]) => parent === String(this.#child.pid))?.[0];
    const command = processes.find(([, parent]) => parent === shell)?.[0];
    process.kill(Number(command), signal);
  }

  async exitCode(): Promise<number | null> {
    if (this.#child.exitCode !== null) return this.#child.exitCode;
    const [code] = await once(this.#child, "close");
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.exitCode();
  }
}
