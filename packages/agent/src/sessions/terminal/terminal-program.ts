import type { TerminalSpec, WindowSize } from "@caisson/protocol/session-frames";
import { closeDescriptor } from "../../files/names/libc.ts";
import type { Sandbox } from "../../host/sandbox.ts";
import { startProgram } from "../../processes/start-program.ts";
import { endOfProgram, signalGroup } from "../end-of-program.ts";
import type { Session } from "../session.ts";
import type { SessionLink } from "../session-link.ts";
import { shellCommand } from "../shell-command.ts";
import { poller, READABLE, WRITABLE } from "./descriptor-poller.ts";
import { changeModes, type OpenTerminal, openTerminal, readNow, setSize, writeNow } from "./terminal-calls.ts";
import { applyModes } from "./terminal-modes.ts";

const READ_BYTES = 32 * 1024;
const MAX_DIMENSION = 65_535;
/**
 * Deno starts a program in a session of its own but knows no terminals. The first terminal that the leader of such a session opens becomes its
 * controlling one, so the shell opens it and then becomes the program.
 */
const ON_TERMINAL = 'exec <>"$0" >&0 2>&0; exec "$@"';

/**
 * A program on a pseudo-terminal. The session is over when it has ended. Closing the master has the kernel send `SIGHUP` to what still runs on the
 * terminal.
 */
export function openTerminalProgram(
  sandbox: Sandbox,
  link: SessionLink,
  line: string | null,
  env: Readonly<Record<string, string>>,
  terminal: TerminalSpec,
): Session {
  const opened = openTerminal();
  const { descriptor, path } = opened;
  let child: Deno.ChildProcess;
  try {
    resize(descriptor, terminal);
    changeModes(descriptor, (termios) => applyModes(termios, terminal.modes));
    const { command, args } = shellCommand(sandbox, line);
    child = startProgram(sandbox.environment, sandbox.settings.defaultDirectory, {
      command: "/bin/sh",
      args: ["-c", ON_TERMINAL, path, command, ...args],
      env: { ...env, TERM: terminal.term, SSH_TTY: path },
      clearEnv: false,
      cwd: undefined,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    });
  } catch (error) {
    closeDescriptor(opened.other);
    closeDescriptor(descriptor);
    throw error;
  }
  return new TerminalProgram(opened, child, link);
}

class TerminalProgram implements Session {
  readonly #descriptor: number;
  /** The other end, held open so that reading does not fail before the program has it open or after it has let it go. */
  readonly #other: number;
  readonly #child: Deno.ChildProcess;
  #hasEnded = false;
  #isClosed = false;

  constructor({ descriptor, other }: OpenTerminal, child: Deno.ChildProcess, link: SessionLink) {
    this.#descriptor = descriptor;
    this.#other = other;
    this.#child = child;
    const ended = endOfProgram(child);
    void ended.then(() => this.#stopWaiting());
    void (async () => {
      await this.#pumpOutput(link);
      await link.end(await ended).catch(() => {});
    })();
  }

  async input(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    try {
      for (let rest = bytes; rest.length > 0 && !this.#hasEnded && !this.#isClosed; ) {
        const count = writeNow(this.#descriptor, rest);
        if (count === null) await poller.wait(this.#descriptor, WRITABLE);
        else rest = rest.subarray(count);
      }
    } catch {
      // Nothing has the terminal open any more.
    }
  }

  /** A terminal has no end of input: that is a key, which the client's user presses. */
  async inputEnd(): Promise<void> {}

  resize(size: WindowSize): void {
    if (!this.#isClosed) resize(this.#descriptor, size);
  }

  signal(name: string): void {
    signalGroup(this.#child, name);
  }

  close(): void {
    this.#isClosed = true;
    closeDescriptor(this.#other);
    void poller.release(this.#descriptor).then(() => closeDescriptor(this.#descriptor));
  }

  /** Until the program has ended and what it wrote is sent. */
  async #pumpOutput(link: SessionLink): Promise<void> {
    const buffer = new Uint8Array(READ_BYTES);
    try {
      while (!this.#isClosed) {
        const hasEnded = this.#hasEnded;
        const count = readNow(this.#descriptor, buffer);
        if (count === 0 || (count === null && hasEnded)) return;
        if (count === null) await poller.wait(this.#descriptor, READABLE);
        else await link.output(buffer.subarray(0, count));
      }
    } catch {
      // The server is gone.
    }
  }

  #stopWaiting(): void {
    this.#hasEnded = true;
    void poller.release(this.#descriptor);
  }
}

function resize(descriptor: number, { rows, columns, widthPixels, heightPixels }: WindowSize): void {
  const size = [rows, columns, widthPixels, heightPixels].map((value) => Math.min(value, MAX_DIMENSION));
  setSize(descriptor, Uint16Array.from(size));
}
