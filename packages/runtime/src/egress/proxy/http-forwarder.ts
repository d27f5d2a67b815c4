import { once } from "node:events";
import {
  Agent,
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  ServerResponse,
} from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type ByteBudget, HttpGuard, type HttpLimits, type Ipv4Endpoint } from "@caisson/linux";
import type { EgressPolicy, EgressSecret } from "../../runtime.ts";
import { allowsName, isHostName, normalizeName } from "../policy.ts";
import { relay } from "./relay.ts";
import { bodyEncoder, REVEALED_BODY_BYTES_MAX, revealBody, revealHeaders, revealPath } from "./reveal.ts";

/** What is known of a client's connection before its first request. */
export interface HttpConnection {
  readonly policy: EgressPolicy;
  readonly target: Ipv4Endpoint;
  /** The name that the server proved by its certificate; null without TLS. */
  readonly serverName: string | null;
  /** Secrets whose placeholders become values; only ever with a server name. */
  readonly secrets: readonly EgressSecret[];
  /** Memory for bodies that are read whole, of one sandbox and of all: each body takes of both. */
  readonly bodies: readonly ByteBudget[];
  /** A connection to the server, for one agent's use. */
  readonly connect: () => Duplex;
}

const HEADER_BYTES_MAX = 64 * 1024;
const BODY_TIMEOUT_MS = 60_000;
/** What is passed on may be large and slow; it costs no memory. The connections of a sandbox are counted where they come in. */
const LIMITS: HttpLimits = {
  connectionsMax: 4096,
  waitingRequestsMax: 64,
  headersMs: 30_000,
  bodyMs: null,
  restMs: 30_000,
  answerMs: null,
  idleMs: 120_000,
  bufferedBytesMax: 256 * 1024 * 1024,
};
/** Headers about one connection only (RFC 9110, section 7.6.1). Node frames the bodies itself. */
const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "expect",
  "upgrade",
]);

/** Forwards HTTP/1 requests one by one, so that the host of each is checked, not only of the first on a connection. */
export class HttpForwarder {
  readonly #server: Server;
  readonly #bodyTimeoutMs: number;
  readonly #connections = new WeakMap<Socket, HttpConnection & { readonly agent: Agent }>();

  /** `bodyTimeoutMs`: how long a body that is read whole may take to come, the wait for memory included. */
  constructor({ bodyTimeoutMs = BODY_TIMEOUT_MS }: { readonly bodyTimeoutMs?: number } = {}) {
    this.#bodyTimeoutMs = bodyTimeoutMs;
    this.#server = createServer({ maxHeaderSize: HEADER_BYTES_MAX, shouldUpgradeCallback: isWebSocket });
    const guard = new HttpGuard(
      LIMITS,
      (request, response) => void this.#forward(request, response).catch((error: unknown) => fail(response, error)),
      (_refusal, socket) => socket.destroy(),
    );
    guard.attach(this.#server);
    this.#server.on("upgrade", (request, socket, head) => {
      void this.#upgrade(request, socket, head).catch(() => socket.destroy());
    });
  }

  /** Takes over the client's socket; what it has read ahead must have been put back. */
  accept(client: Socket, connection: HttpConnection): void {
    // One connection to the server for one of the client, as without a proxy.
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    agent.createConnection = () => connection.connect();
    this.#connections.set(client, { ...connection, agent });
    client.once("close", () => agent.destroy());
    this.#server.emit("connection", client);
    client.resume();
  }

  async #forward(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const connection = this.#connections.get(request.socket);
    if (connection === undefined) throw new Error("The connection is closed");
    const refusal = refusalOf(request, connection);
    if (refusal !== null) {
      response
        .writeHead(refusal.status, { "content-type": "text/plain", connection: "close" })
        .end(`${refusal.reason}\n`);
      return;
    }
    using held = new DisposableStack();
    const body = await revealedBody(request, connection, held, AbortSignal.timeout(this.#bodyTimeoutMs));
    const headers = forwardedHeaders(request, connection, body === null ? null : body.length);
    const outgoing = httpRequest({ ...target(request, connection), headers });
    request.once("close", () => {
      if (!request.complete) outgoing.destroy();
    });
    response.once("close", () => {
      if (!response.writableFinished) outgoing.destroy();
    });
    const sent = body === null ? pipeline(request, outgoing) : pipeline([body], outgoing);
    const giveBack = (): void => held.dispose();
    sent.then(giveBack, giveBack);
    const incoming = await answerTo(outgoing, sent);
    response.writeHead(incoming.statusCode ?? 502, incoming.statusMessage ?? "", withoutHopByHop(incoming.rawHeaders));
    // A server may answer before it has read the whole request; that its rest fails then is nobody's error.
    await Promise.all([pipeline(incoming, response), sent.catch(() => undefined)]);
  }

  async #upgrade(request: IncomingMessage, client: Duplex, head: Buffer): Promise<void> {
    const connection = this.#connections.get(request.socket);
    const refusal = connection === undefined ? { status: 502, reason: "" } : refusalOf(request, connection);
    if (connection === undefined || refusal !== null) {
      client.end(`HTTP/1.1 ${refusal?.status} Refused\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
      return;
    }
    const outgoing = httpRequest({
      ...target(request, connection),
      headers: revealHeaders(request.rawHeaders, connection.secrets),
    });
    client.once("close", () => outgoing.destroy());
    client.on("error", () => outgoing.destroy());
    outgoing.on("error", () => client.destroy());
    outgoing.once("response", (incoming) => {
      const response = new ServerResponse(request);
      response.assignSocket(client as Socket);
      response.shouldKeepAlive = false;
      response.writeHead(
        incoming.statusCode ?? 502,
        incoming.statusMessage ?? "",
        withoutHopByHop(incoming.rawHeaders),
      );
      void pipeline(incoming, response).then(
        () => client.end(),
        () => client.destroy(),
      );
    });
    outgoing.once("upgrade", (incoming, server, serverHead) => {
      if (incoming.headers.upgrade?.toLowerCase() !== "websocket") {
        server.destroy();
        client.destroy();
        return;
      }
      const lines = pairs(incoming.rawHeaders).map(([name, value]) => `${name}: ${value}\r\n`);
      client.write(`HTTP/1.1 101 ${incoming.statusMessage ?? ""}\r\n${lines.join("")}\r\n`, "latin1");
      if (serverHead.length > 0) server.unshift(serverHead);
      if (head.length > 0) client.unshift(head);
      relay(client, server);
    });
    outgoing.end();
  }
}

/**
 * Only websockets may take a connection over: after an upgrade to HTTP/2 nobody would check the hosts of its requests. Other wishes to upgrade are
 * not passed on, which every client must be able to take.
 */
function isWebSocket({ method, headers }: IncomingMessage): boolean {
  const hasBody = headers["content-length"] !== undefined || headers["transfer-encoding"] !== undefined;
  return method === "GET" && headers.upgrade?.toLowerCase() === "websocket" && !hasBody;
}

interface Refusal {
  readonly status: number;
  readonly reason: string;
}

/** Why a request must not go on; null when it may. A request names its host once, in Host: other forms would say another to the server. */
function refusalOf(request: IncomingMessage, { policy, target: { port }, serverName }: HttpConnection): Refusal | null {
  const hosts = pairs(request.rawHeaders).filter(([name]) => name.toLowerCase() === "host");
  const [host] = hosts;
  const name = normalizeName((host?.[1] ?? "").replace(/:\d+$/, ""));
  if (hosts.length !== 1 || !isHostName(name))
    return { status: 400, reason: "Give one Host header, with the name of a host" };
  if (request.url?.startsWith("/") !== true && request.url !== "*") {
    return { status: 400, reason: "Give the path of the resource, not its whole URL" };
  }
  // It would send the values of secrets back.
  if (request.method === "TRACE") return { status: 405, reason: "TRACE is not allowed" };
  if (serverName !== null && name !== normalizeName(serverName)) {
    return { status: 421, reason: `This connection is to ${serverName}: open another one for ${name}` };
  }
  if (allowsName(policy, name, port)) return null;
  return { status: 403, reason: `This sandbox may not reach ${name}:${port} (allow_net)` };
}

function target(
  request: IncomingMessage,
  { target: { address, port }, agent, secrets }: HttpConnection & { agent: Agent },
) {
  return {
    host: address,
    port,
    agent,
    method: request.method ?? "GET",
    path: revealPath(request.url ?? "/", secrets),
    setHost: false,
  };
}

/** The request's headers for the server; `bodyBytes`: the length of a body that has become another. */
function forwardedHeaders(request: IncomingMessage, { secrets }: HttpConnection, bodyBytes: number | null): string[] {
  const headers = withoutHopByHop(request.rawHeaders).map((text, index, all) =>
    bodyBytes !== null && all[index - 1]?.toLowerCase() === "content-length" && index % 2 === 1
      ? String(bodyBytes)
      : text,
  );
  if (request.headers["transfer-encoding"] !== undefined) headers.push("Transfer-Encoding", "chunked");
  return revealHeaders(headers, secrets);
}

/** A short textual body with the values of secrets; null: the body goes on as it comes. `held` gets the memory that it takes. */
async function revealedBody(
  request: IncomingMessage,
  { secrets, bodies }: HttpConnection,
  held: DisposableStack,
  signal: AbortSignal,
): Promise<Buffer | null> {
  const length = Number(request.headers["content-length"] ?? 0);
  const encode = bodyEncoder(request.headers["content-type"] ?? "");
  if (secrets.length === 0 || encode === null || length === 0 || length > REVEALED_BODY_BYTES_MAX) return null;
  if (request.headers["content-encoding"] !== undefined) return null;
  try {
    for (const budget of bodies) held.use(await budget.take(length, signal));
    return revealBody(await readWhole(request, signal), secrets, encode);
  } catch (error) {
    throw signal.aborted ? new LateBodyError() : error;
  }
}

async function readWhole(request: IncomingMessage, signal: AbortSignal): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const keep = (chunk: Buffer): void => void chunks.push(chunk);
  request.on("data", keep);
  try {
    await once(request, "end", { signal });
    return Buffer.concat(chunks);
  } finally {
    request.off("data", keep);
  }
}

class LateBodyError extends Error {
  constructor() {
    super("The body did not come in time");
    this.name = "LateBodyError";
  }
}

function withoutHopByHop(rawHeaders: readonly string[]): string[] {
  return pairs(rawHeaders)
    .filter(([name]) => !HOP_BY_HOP.has(name.toLowerCase()))
    .flat();
}

function pairs(rawHeaders: readonly string[]): (readonly [name: string, value: string])[] {
  return rawHeaders.flatMap((name, index) => (index % 2 === 0 ? [[name, rawHeaders[index + 1] ?? ""] as const] : []));
}

async function answerTo(outgoing: ReturnType<typeof httpRequest>, sent: Promise<void>): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  outgoing.once("response", resolve);
  outgoing.once("error", reject);
  outgoing.once("close", () => reject(new Error("The server closed the connection")));
  sent.catch(() => undefined);
  return promise;
}

function fail(response: ServerResponse, error: unknown): void {
  if (response.headersSent) response.destroy();
  else
    response.writeHead(error instanceof LateBodyError ? 408 : 502, { connection: "close", "content-length": 0 }).end();
}
