import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { CaissonError } from "@caisson/model";
import { watchClient } from "../connections/client-watch.ts";
import { OneBufferConnection } from "../connections/one-buffer-connection.ts";
import { endConnection } from "../http/end-connection.ts";
import type { WaitingClient } from "./waiting-client.ts";

/** Headers that are for the server alone: credentials, and what the agent has no use for. */
const WITHHELD_HEADERS = new Set(["authorization", "cookie", "x-deno-org", "x-deno-sandbox-config"]);
/** Headers of the agent that are for the client (RFC 6455, section 4.2.2). */
const PASSED_HEADERS = new Set([
  "upgrade",
  "connection",
  "sec-websocket-accept",
  "sec-websocket-protocol",
  "sec-websocket-extensions",
]);
/** No control character in the value, and so no second line. */
const HEADER_LINE = /^([\w-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)$/;
const MAX_ANSWER_BYTES = 16 * 1024;

export interface ForwardTarget {
  /** A connection to the agent, on which nothing was said yet. It ends with this one. */
  readonly agent: Duplex;
  /** How long it may take to answer. */
  readonly answerTimeoutMs: number;
  /** Put into the 101. */
  readonly addedHeaders: Readonly<Record<string, string>>;
}

/** A client's connection that was handed to an agent. */
export interface ForwardedConnection {
  /** Resolves when the client's connection is gone, and says whether the client can have seen its 101. */
  readonly closed: Promise<{ readonly isAnswered: boolean }>;
}

/**
 * Hands a client's upgrade to the agent and joins the two connections. Resolves when the 101 is on its way to the client; from then on bytes
 * are copied with the back-pressure of both sides, and when one side ends so does the other, whatever the agent does about it. Throws `SANDBOX_START_FAILED` when the agent
 * does not switch protocols, and a `ClientLeftError` when the client does not wait for it; the client was then sent nothing.
 */
export async function forwardUpgrade(
  request: IncomingMessage,
  socket: Duplex,
  client: WaitingClient,
  target: ForwardTarget,
): Promise<ForwardedConnection> {
  const { agent } = target;
  agent.on("error", () => {});
  try {
    agent.write(requestText(request));
    const { status, rest } = await readAnswer(target, client.signal);
    const early = client.take();
    const incoming = receiveFrom(socket);
    const outgoing = receiveFrom(agent);
    const added = Object.entries(target.addedHeaders).map(([name, value]) => `${name}: ${value}\r\n`);
    const hasTraffic = [early, incoming.early, rest, outgoing.early].some(({ length }) => length > 0);
    const forwarded = { closed: watchClosing(socket, () => hasTraffic || incoming.hasCome() || outgoing.hasCome()) };
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${added.join("")}${passedHeaders(status)}\r\n`);
    for (const bytes of [rest, outgoing.early]) if (bytes.length > 0) socket.write(bytes);
    for (const bytes of [early, incoming.early]) if (bytes.length > 0) agent.write(bytes);
    incoming.copyTo(agent);
    outgoing.copyTo(socket);
    // The agent's end is that of both its halves.
    outgoing.socket.once("end", () => agent.end());
    endAfter(socket, agent);
    endAfter(agent, socket);
    watchClient(socket, incoming.socket);
    return forwarded;
  } catch (error) {
    agent.destroy();
    throw error;
  }
}

/** What one side sends. */
interface Incoming {
  /** What has come already. */
  readonly early: Buffer;
  /** Its "end" is that of that side's half. */
  readonly socket: Duplex;
  /** Whether more than `early` has come. */
  hasCome(): boolean;
  copyTo(other: Duplex): void;
}

function receiveFrom(side: Duplex): Incoming {
  const own = OneBufferConnection.from(side);
  if (own === null) return receiveByNode(side);
  const { early, connection } = own;
  const { socket } = connection;
  return { early, socket, hasCome: () => socket.bytesRead > 0, copyTo: (other) => connection.copyTo(other) };
}

function receiveByNode(side: Duplex): Incoming {
  let hasCome = false;
  return {
    early: Buffer.alloc(0),
    socket: side,
    hasCome: () => hasCome,
    copyTo(other) {
      side.once("data", () => {
        hasCome = true;
      });
      side.pipe(other);
    },
  };
}

/**
 * A connection that is reset while the 101 is all that was sent on it: the system of a peer answers so when the program closed the connection
 * with that still unread, or before it came. A client that has read it and ends, be it by a crash, closes properly.
 */
function watchClosing(socket: Duplex, hasTraffic: () => boolean): Promise<{ readonly isAnswered: boolean }> {
  let isAnswered = true;
  socket.once("error", () => {
    if (!hasTraffic()) isAnswered = false;
  });
  return new Promise((resolve) => socket.once("close", () => resolve({ isAnswered })));
}

/** When one connection is gone the other ends too, but not before everything that came from the first is sent. */
function endAfter(gone: Duplex, other: Duplex): void {
  gone.once("close", () => endConnection(other));
}

function requestText(request: IncomingMessage): string {
  const lines = ["GET /rpc HTTP/1.1"];
  for (let index = 0; index + 1 < request.rawHeaders.length; index += 2) {
    const name = request.rawHeaders[index] ?? "";
    if (!WITHHELD_HEADERS.has(name.toLowerCase())) lines.push(`${name}: ${request.rawHeaders[index + 1]}`);
  }
  return `${lines.join("\r\n")}\r\n\r\n`;
}

/**
 * Those headers of the agent's answer that are about the WebSocket, one of each. Nothing else of it reaches the client: the agent may be anybody's
 * program by now, and must not speak for the server, as a second id or a cookie would.
 */
function passedHeaders(answer: string): string {
  const passed = new Map<string, string>();
  for (const line of answer.split("\r\n").slice(1)) {
    const [, name = "", value = ""] = HEADER_LINE.exec(line) ?? [];
    const isFirst = PASSED_HEADERS.has(name.toLowerCase()) && !passed.has(name.toLowerCase());
    if (isFirst) passed.set(name.toLowerCase(), `${name}: ${value}\r\n`);
  }
  return [...passed.values()].join("");
}

/** Reads the agent's answer up to the empty line, and what came right behind it. */
async function readAnswer(
  { agent, answerTimeoutMs }: ForwardTarget,
  signal: AbortSignal,
): Promise<{ readonly status: string; readonly rest: Buffer }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: string; rest: Buffer }>();
  const fail = (detail: string) =>
    reject(new CaissonError("SANDBOX_START_FAILED", `The sandbox does not take connections: ${detail}`));
  let received = Buffer.alloc(0);
  const receive = (bytes: Buffer): void => {
    received = Buffer.concat([received, bytes]);
    const end = received.indexOf("\r\n\r\n");
    if (end < 0 && received.length < MAX_ANSWER_BYTES) return;
    // What follows waits for the one who takes it.
    agent.off("data", receive).pause();
    const status = received.subarray(0, end + 4).toString("latin1");
    if (end < 0 || !status.startsWith("HTTP/1.1 101 ")) fail(`it answered ${JSON.stringify(status.slice(0, 64))}`);
    else resolve({ status, rest: received.subarray(end + 4) });
  };
  const onClose = () => fail("it closed the connection");
  const timer = setTimeout(() => fail(`no answer within ${answerTimeoutMs} ms`), answerTimeoutMs);
  const onAbort = () => reject(signal.reason);
  agent.on("data", receive);
  agent.on("close", onClose);
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) onAbort();
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    agent.off("close", onClose);
    signal.removeEventListener("abort", onAbort);
  }
}
