import { createServer as createHttp, type Server as HttpServer, type IncomingMessage } from "node:http";
import { createServer as createHttp2, type Http2Server, type ServerHttp2Session } from "node:http2";
import { createServer as createTcp, type Server as TcpServer } from "node:net";
import type { Duplex } from "node:stream";
import {
  createServer as createTls,
  type SecureContextOptions,
  type TLSSocket,
  type Server as TlsServer,
} from "node:tls";
import { HttpGuard, type HttpLimits } from "@caisson/linux";
import type { AppContext } from "../app/context.ts";
import type { Preview } from "../app/previews/preview.ts";
import { isWebSocket } from "../connections/guarded-server.ts";
import { HTTP_LIMITS, KEEP_ALIVE_MS } from "../connections/http-limits.ts";
import { closeListener, listen } from "../connections/listener.ts";
import { endConnection } from "../http/end-connection.ts";
import { accessOf } from "./access.ts";
import { findPreview, type Incoming } from "./find-preview.ts";
import { breakOff, forwardRequest, isGone, type Outgoing, refuse, writeHead } from "./forward-request.ts";
import { forwardUpgrade, refuseUpgrade } from "./forward-upgrade.ts";
import type { RequestOrigin } from "./headers.ts";
import { openConnection } from "./open-connection.ts";
import type { Refusal } from "./refusal.ts";

const HANDSHAKE_TIMEOUT_MS = 5_000;
const MAX_HEADER_BYTES = 64 * 1024;
/** As for the API, but bodies and answers are passed on and so take as long as they do. */
const LIMITS: HttpLimits = { ...HTTP_LIMITS, bodyMs: null, answerMs: null };
const STREAMS_MAX = 128;
const SESSION_MEGABYTES_MAX = 8;
/** What a client may have sent of its bodies that the server inside has not taken yet: by stream, and by connection. */
const STREAM_WINDOW_BYTES = 1024 * 1024;
const SESSION_WINDOW_BYTES = 4 * 1024 * 1024;

/** Where previews are reached: TLS with HTTP/2 and HTTP/1.1, or HTTP/1.1 in the clear behind a proxy that ends TLS. */
export class PreviewServer implements AsyncDisposable {
  readonly #app: AppContext;
  readonly #http: HttpServer;
  readonly #http2: Http2Server;
  readonly #listener: TcpServer;
  readonly #clients = new Set<Duplex>();

  constructor(app: AppContext, tls: SecureContextOptions | null) {
    this.#app = app;
    this.#http = this.#createHttp();
    this.#http2 = this.#createHttp2();
    this.#listener = tls === null ? createTcp((socket) => this.#accept(socket, false)) : this.#createTls(tls);
    this.#listener.maxConnections = LIMITS.connectionsMax;
  }

  /** Listens, and resolves with the port. */
  async listen(host: string, port: number): Promise<number> {
    return await listen(this.#listener, host, port);
  }

  /** Takes a renewed certificate for new connections. */
  setSecureContext(options: SecureContextOptions): void {
    (this.#listener as TlsServer).setSecureContext(options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = closeListener(this.#listener);
    for (const client of this.#clients) client.destroy();
    await closed;
  }

  #createTls(tls: SecureContextOptions): TlsServer {
    const server = createTls({
      ...tls,
      ALPNProtocols: ["h2", "http/1.1"],
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_MS,
      noDelay: true,
    });
    server.on("secureConnection", (socket: TLSSocket) => this.#accept(socket, socket.alpnProtocol === "h2"));
    // The server's end reaches connections whose handshake goes on, too.
    server.on("connection", (socket: Duplex) => this.#track(socket));
    server.on("tlsClientError", (_error, socket) => socket.destroy());
    return server;
  }

  #track(socket: Duplex): void {
    this.#clients.add(socket);
    socket.once("close", () => this.#clients.delete(socket));
  }

  #accept(socket: Duplex, isHttp2: boolean): void {
    this.#track(socket);
    socket.on("error", () => socket.destroy());
    (isHttp2 ? this.#http2 : this.#http).emit("connection", socket);
  }

  #createHttp(): HttpServer {
    const server = createHttp({
      maxHeaderSize: MAX_HEADER_BYTES,
      requireHostHeader: false,
      shouldUpgradeCallback: isWebSocket,
      noDelay: true,
    });
    const guard = new HttpGuard(
      LIMITS,
      (request, response) => void this.#serve(request, response),
      (_refusal, socket) => endBadly(socket, "408 Request Timeout"),
    );
    guard.attach(server);
    server.on("upgrade", (request, socket, head) => void this.#serveUpgrade(request, socket, head));
    server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
      if (error.code === "ECONNRESET" || !socket.writable) socket.destroy();
      else
        endBadly(
          socket,
          error.code === "HPE_HEADER_OVERFLOW" ? "431 Request Header Fields Too Large" : "400 Bad Request",
        );
    });
    return server;
  }

  #createHttp2(): Http2Server {
    const server = createHttp2({
      maxSessionMemory: SESSION_MEGABYTES_MAX,
      settings: {
        maxConcurrentStreams: STREAMS_MAX,
        maxHeaderListSize: MAX_HEADER_BYTES,
        initialWindowSize: STREAM_WINDOW_BYTES,
        enableConnectProtocol: false,
      },
    });
    server.on("session", (session: ServerHttp2Session) => {
      session.setLocalWindowSize(SESSION_WINDOW_BYTES);
      limitIdleTime(session);
      session.on("error", () => session.destroy());
    });
    server.on("request", (request, response) => void this.#serve(request, response));
    server.on("sessionError", () => undefined);
    return server;
  }

  async #serve(request: Incoming, response: Outgoing): Promise<void> {
    response.on("error", () => undefined);
    request.on("error", () => undefined);
    try {
      if (request.method === "CONNECT") return refuse(response, "bad-method");
      const admitted = this.#admit(request, () => breakOff(response));
      if (typeof admitted === "string") return refuse(response, admitted);
      response.once("close", admitted.finish);
      if (admitted.entry !== null) {
        const { cookie, location } = admitted.entry;
        writeHead(response, 302, { "set-cookie": cookie, location, "cache-control": "no-store" });
        response.end();
        return;
      }
      const { preview, origin } = admitted;
      const { target } = preview;
      if (target === null) return refuse(response, "not-bound");
      const connection = await openConnection(this.#app, preview, target);
      if (typeof connection === "string") return refuse(response, connection);
      // The client may have left meanwhile.
      if (isGone(response)) connection.destroy();
      else forwardRequest(preview, origin, connection, request, response);
    } catch (error) {
      this.#app.logger.error({ err: error }, "cannot serve a preview");
      refuse(response, "bad-answer");
    }
  }

  async #serveUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on("error", () => socket.destroy());
    if (socket.destroyed) return;
    try {
      const admitted = this.#admit(request, () => socket.destroy());
      if (typeof admitted === "string") return refuseUpgrade(socket, admitted);
      socket.once("close", admitted.finish);
      const { preview, origin, entry } = admitted;
      if (entry !== null) return refuseUpgrade(socket, "private");
      const { target } = preview;
      if (target === null) return refuseUpgrade(socket, "not-bound");
      const connection = await openConnection(this.#app, preview, target);
      if (typeof connection === "string") return refuseUpgrade(socket, connection);
      if (socket.destroyed) connection.destroy();
      else forwardUpgrade(preview, origin, connection, request, { socket, head });
    } catch (error) {
      this.#app.logger.error({ err: error }, "cannot serve an upgrade of a preview");
      socket.destroy();
    }
  }

  /** Finds the preview, and counts the request unless it may not pass. */
  #admit(request: Incoming, end: () => void): Admitted | Refusal {
    const found = findPreview(this.#app, request);
    if (typeof found === "string") return found;
    const { preview, origin } = found;
    const access = accessOf(preview, request.url ?? "/", request.rawHeaders);
    if (access.kind === "closed") return "private";
    const finish = this.#app.previews.traffic(preview).begin(preview, end);
    if (typeof finish === "string") return finish;
    return { preview, origin, finish, entry: access.kind === "enter" ? access : null };
  }
}

interface Admitted {
  readonly preview: Preview;
  readonly origin: RequestOrigin;
  /** Called when the request is over. */
  readonly finish: () => void;
  readonly entry: { readonly cookie: string; readonly location: string } | null;
}

/** Ends a connection on which nothing goes on. */
function limitIdleTime(session: ServerHttp2Session): void {
  let streams = 0;
  let sinceMs = performance.now();
  session.on("stream", (stream) => {
    streams += 1;
    stream.once("close", () => {
      streams -= 1;
      sinceMs = performance.now();
    });
  });
  const timer = setInterval(() => {
    if (streams === 0 && performance.now() - sinceMs > LIMITS.idleMs) session.destroy();
  }, LIMITS.idleMs / 3).unref();
  session.once("close", () => clearInterval(timer));
}

function endBadly(socket: Duplex, status: string): void {
  socket.write(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  endConnection(socket);
}
