import type { Sandbox } from "../host/sandbox.ts";
import { startProgram } from "../processes/start-program.ts";
import { endOfProgram, signalGroup } from "./end-of-program.ts";
import type { Session } from "./session.ts";
import type { SessionLink } from "./session-link.ts";
import { shellCommand } from "./shell-command.ts";

const READ_BYTES = 32 * 1024;

/**
 * A program on three pipes. The session is over when it has ended and both outputs have, which programs that it left behind may hold open. When the
 * client goes before, the pipes are closed and nothing is killed, as OpenSSH does it.
 */
export function openPipedProgram(
  sandbox: Sandbox,
  link: SessionLink,
  line: string | null,
  env: Readonly<Record<string, string>>,
): Session {
  const child = startProgram(sandbox.environment, sandbox.settings.defaultDirectory, {
    ...shellCommand(sandbox, line),
    env,
    clearEnv: false,
    cwd: undefined,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  });
  const writer = child.stdin.getWriter();
  const stdout = child.stdout.getReader({ mode: "byob" });
  const stderr = child.stderr.getReader({ mode: "byob" });
  const ended = endOfProgram(child);
  let hasEnded = false;
  void ended.then(() => {
    hasEnded = true;
  });
  void (async () => {
    await Promise.all([pump(stdout, (bytes) => link.output(bytes)), pump(stderr, (bytes) => link.errorOutput(bytes))]);
    await link.end(await ended).catch(() => {});
  })();
  return {
    async input(bytes) {
      // A program that has ended reads no more, and its client is not held up.
      if (!hasEnded) await Promise.race([writer.write(bytes).catch(() => {}), ended]);
    },
    async inputEnd() {
      await writer.close().catch(() => {});
    },
    resize() {},
    signal: (name) => signalGroup(child, name),
    close() {
      // A write that the program does not take may hold this up for as long as it runs.
      for (const closing of [writer.abort(), stdout.cancel(), stderr.cancel()]) void closing.catch(() => {});
    },
  };
}

/** Sends what a program writes, no faster than it is taken. Ends with the pipe, and when there is nobody to send to. */
async function pump(reader: ReadableStreamBYOBReader, send: (bytes: Uint8Array) => Promise<void>): Promise<void> {
  let buffer = new Uint8Array(READ_BYTES);
  try {
    for (;;) {
      const { value, done } = await reader.read(buffer);
      if (done || value === undefined) return;
      await send(value);
      buffer = new Uint8Array(value.buffer);
    }
  } catch {
    // The server is gone; `close` gives the pipe up.
    await reader.cancel().catch(() => {});
  }
}
