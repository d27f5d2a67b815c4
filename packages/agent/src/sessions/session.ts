import { decodeCount, FRAME, type SessionSpec, type WindowSize } from "@caisson/protocol/session-frames";
import type { Sandbox } from "../host/sandbox.ts";
import type { ByteStream } from "../wire/websocket.ts";
import { openPipedProgram } from "./piped-program.ts";
import { SessionLink } from "./session-link.ts";
import { openFileSession } from "./sftp/file-session.ts";
import { openTerminalProgram } from "./terminal/terminal-program.ts";

const HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n";
/** What a shell answers for a program that it cannot start. */
const NOT_STARTED_CODE = 127;

/** What an SSH session does, whatever is behind it. */
export interface Session {
  /** Resolves when the bytes are taken; never rejects, also where nothing takes input any more. */
  input(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  inputEnd(): Promise<void>;
  resize(size: WindowSize): void;
  /** `name` without `SIG`. One that is not known does nothing, as with OpenSSH. */
  signal(name: string): void;
  /** Called once, when the server has gone or the session is over: what is still open is closed, and programs on a terminal get `SIGHUP`. */
  close(): void;
}

/** Serves one SSH session on the server's connection, to its end (`@caisson/protocol/session-frames`). */
export async function serveSession(sandbox: Sandbox, stream: ByteStream, first: Uint8Array): Promise<void> {
  let head = new TextEncoder().encode(HEAD);
  while (head.length > 0) head = head.subarray(await stream.write(head));
  const link = new SessionLink(stream);
  let session: Session | null = null;
  let lastInput: Promise<void> = Promise.resolve();
  try {
    for await (const { type, payload } of link.frames(first)) {
      if (type === FRAME.open && session === null)
        session = await open(sandbox, link, JSON.parse(new TextDecoder().decode(payload)) as SessionSpec);
      if (session === null) break;
      if (type === FRAME.outputTaken) link.outputTaken(decodeCount(payload));
      const current = session;
      // Input waits for the program; signals and sizes do not.
      if (type === FRAME.input) {
        lastInput = lastInput
          .then(() => current.input(payload))
          .then(() => link.inputTaken(payload.length).catch(() => {}));
      } else if (type === FRAME.inputEnd) lastInput = lastInput.then(() => current.inputEnd());
      else if (type === FRAME.resize) current.resize(JSON.parse(new TextDecoder().decode(payload)) as WindowSize);
      else if (type === FRAME.signal) current.signal(new TextDecoder().decode(payload));
    }
  } finally {
    link.close();
    session?.close();
  }
}

/** Null when it could not be: the client has been told. */
async function open(sandbox: Sandbox, link: SessionLink, spec: SessionSpec): Promise<Session | null> {
  try {
    if (spec.kind === "files") return openFileSession(sandbox, link);
    const { command, env, terminal } = spec;
    return terminal === null
      ? openPipedProgram(sandbox, link, command, env)
      : openTerminalProgram(sandbox, link, command, env, terminal);
  } catch (error) {
    await link.errorOutput(new TextEncoder().encode(`${error instanceof Error ? error.message : String(error)}\n`));
    await link.end({ code: NOT_STARTED_CODE, signal: null });
    return null;
  }
}
