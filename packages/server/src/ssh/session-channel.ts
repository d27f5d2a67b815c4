import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { SessionEnd, SessionSpec, TerminalSpec, WindowSize } from "@caisson/protocol/session-frames";
import type { PseudoTtyInfo, ServerChannel, Session, WindowChangeInfo } from "ssh2";
import { AgentSession } from "./agent-session.ts";
import { ChannelWriter } from "./channel-writer.ts";
import { VARIABLE_BYTES_MAX, VARIABLES_MAX } from "./limits.ts";

/** What a client's system says when a session ended without a status. */
const NO_STATUS_CODE = 255;
/** Those of RFC 4254, 6.10. The library throws for any other, and programs end by others too. */
const EXIT_SIGNALS: ReadonlySet<string> = new Set(
  "ABRT ALRM FPE HUP ILL INT KILL PIPE QUIT SEGV TERM USR1 USR2".split(" "),
);
const VARIABLE_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,255}$/;
const TERM = /^[\x21-\x7e]{1,64}$/;
const SIGNAL = /^[A-Z0-9]{1,16}$/;

export interface SessionPlace {
  readonly socket: Socket;
  /** Makes a connection to the sandbox's agent. */
  readonly openAgent: () => Duplex;
  /** What programs are told of the connection, before the client's own variables. */
  readonly env: Readonly<Record<string, string>>;
  readonly onChannel: (channel: ServerChannel) => void;
  readonly onEnd: (channel: ServerChannel) => void;
}

/** Serves what a client asks of one session: a shell, a command or SFTP, on a terminal or not. One of them, and once. */
export function serveSession(session: Session, place: SessionPlace): void {
  const env = new Variables(place.env);
  let terminal: TerminalSpec | null = null;
  let agent: AgentSession | null = null;
  const start = (channel: ServerChannel | undefined, spec: SessionSpec): void => {
    if (channel !== undefined && agent === null) agent = joinAgent(session, channel, spec, place);
  };
  const startProgram = (channel: ServerChannel | undefined, command: string | null): void =>
    start(channel, { kind: "program", command, terminal, env: env.toObject() });

  session.on("pty", (accept, reject, info) => {
    if (agent !== null) return reject?.();
    terminal = terminalOf(info);
    accept?.();
  });
  session.on("env", (accept, reject, { key, val }) => {
    if (env.set(key, val)) accept?.();
    else reject?.();
  });
  session.on("window-change", (accept, _reject, info) => {
    agent?.resize(sizeOf(info));
    accept?.();
  });
  session.on("signal", (accept, _reject, { name }) => {
    if (SIGNAL.test(name)) agent?.signal(name);
    accept?.();
  });
  session.on("shell", (accept) => startProgram(accept(), null));
  session.on("exec", (accept, reject, { command }) => {
    if (command.includes("\0")) reject?.();
    else startProgram(accept(), command);
  });
  session.on("subsystem", (accept, reject, { name }) => {
    if (name === "sftp") start(accept(), { kind: "files" });
    else reject?.();
  });
  // The library takes the end of input for the end of the session, after which it would drop signals and sizes.
  session.on("eof", () => {
    (session as unknown as { _ending: boolean })._ending = false;
  });
}

/** Joins a client's channel with a session in the sandbox, with the back-pressure of both sides. */
function joinAgent(session: Session, channel: ServerChannel, spec: SessionSpec, place: SessionPlace): AgentSession {
  place.onChannel(channel);
  const writer = new ChannelWriter(channel, place.socket);
  const agent = new AgentSession(place.openAgent(), spec, {
    onOutput: (bytes, isError) => writer.write(bytes, isError),
    onInputTaken: () => {
      if (agent.hasRoomForInput) channel.resume();
    },
    onEnd(end) {
      writer.close();
      sendEnd(channel, end);
      channel.end();
      // What nobody inside reads any more must not hold the channel up.
      channel.resume();
    },
  });
  channel.on("data", (bytes: Buffer) => {
    agent.input(bytes);
    if (!agent.hasRoomForInput) channel.pause();
  });
  channel.once("end", () => agent.inputEnd());
  channel.on("error", () => undefined);
  const leave = (): void => {
    writer.close();
    agent.close();
    place.onEnd(channel);
    place.socket.off("close", leave);
  };
  session.once("close", leave);
  place.socket.once("close", leave);
  return agent;
}

function sendEnd(channel: ServerChannel, end: SessionEnd | null): void {
  if (end === null) channel.exit(NO_STATUS_CODE);
  else if (end.signal === null) channel.exit(end.code);
  else if (EXIT_SIGNALS.has(end.signal)) channel.exit(end.signal, false, "");
  else channel.exit(NO_STATUS_CODE);
}

function terminalOf({ term, modes, ...size }: PseudoTtyInfo): TerminalSpec {
  const known = Object.entries(modes).filter((entry): entry is [string, number] => typeof entry[1] === "number");
  return { term: TERM.test(term) ? term : "dumb", modes: Object.fromEntries(known), ...sizeOf(size) };
}

function sizeOf({ cols, rows, width, height }: Omit<WindowChangeInfo, "term" | "modes">): WindowSize {
  return { columns: cols, rows, widthPixels: width, heightPixels: height };
}

/** Those of a session, which a client sets one by one. */
class Variables {
  readonly #variables: Map<string, string>;
  #bytes = 0;

  constructor(initial: Readonly<Record<string, string>>) {
    this.#variables = new Map(Object.entries(initial));
  }

  /** False: the client may not. */
  set(name: string, value: string): boolean {
    this.#bytes += name.length + Buffer.byteLength(value) + 2;
    const isAllowed =
      VARIABLE_NAME.test(name) &&
      !value.includes("\0") &&
      this.#bytes <= VARIABLE_BYTES_MAX &&
      this.#variables.size < VARIABLES_MAX;
    if (isAllowed) this.#variables.set(name, value);
    return isAllowed;
  }

  toObject(): Readonly<Record<string, string>> {
    return Object.fromEntries(this.#variables);
  }
}
