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

/** An agent that has taken a client's upgrade. */
export interface WillingAgent {
  readonly agent: Duplex;
  /** The head of its 101. */
  readonly status: string;
  /** What came right behind it. */
  readonly rest: Buffer;
}

/** A client's connection that was handed to an agent. */
export interface ForwardedConnection {
  /** Resolves when the client's connection is gone, and says whether the client can have seen its 101. */
  readonly closed: Promise<{ readonly isAnswered: boolean }>;
}

/** How to ask an agent. */
export interface AgentQuestion {
  /** How long it may take to answer. */
  readonly answerTimeoutMs: number;
  readonly signal: AbortSignal;
}

/**
 * Hands a client's upgrade to the agent, of which the client learns nothing yet. `agent` is a connection on which nothing was said yet; it ends with the client's. Throws
 * `SANDBOX_START_FAILED` when the agent does not switch protocols, and the signal's reason; the connection is then gone.
 */
export async function askAgent(
  request: IncomingMessage,
  agent: Duplex,
  question: AgentQuestion,
): Promise<WillingAgent> {
  agent.on("error", () => {});
  try {
    agent.write(requestText(request));
    return { agent, ...(await readAnswer(agent, question)) };
  } catch (error) {
    agent.destroy();
    throw error;
  }
}

/**
 * Answers the client with the agent's 101, and `addedHeaders`, and joins the two connections: bytes are copied with the back-pressure of both sides, and
 * when one side ends so does the other, whatever the agent does about it. Throws a `ClientLeftError` when the client has left, and `SANDBOX_START_FAILED` when the agent
 * has; the client was then sent nothing, and the agent's connection is gone.
 */
export function joinAgent(
  socket: Duplex,
  client: WaitingClient,
  { agent, status, rest }: WillingAgent,
  addedHeaders: Readonly<Record<string, string>>,
): ForwardedConnection {
  try {
    const early = client.take();
    // Nobody has looked at it since its answer.
    if (agent.destroyed) throw notTaken("it closed the connection");
    const incoming = receiveFrom(socket);
    const outgoing = receiveFrom(agent);
    const added = Object.entries(addedHeaders).map(([name, value]) => `${name}: ${value}\r\n`);
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

function notTaken(detail: string): CaissonError {
  return new CaissonError("SANDBOX_START_FAILED", `The sandbox does not take connections: ${detail}`);
}

/** Reads the agent's answer up to the empty line, and what came right behind it. */
async function readAnswer(
  agent: Duplex,
  { answerTimeoutMs, signal }: AgentQuestion,
): Promise<Pick<WillingAgent, "status" | "rest">> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: string; rest: Buffer }>();
  const fail = (detail: string) => reject(notTaken(detail));
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
