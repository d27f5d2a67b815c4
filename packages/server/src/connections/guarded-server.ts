import { createServer as createHttp, type IncomingMessage, type RequestListener, type Server } from "node:http";
import { createServer as createHttps } from "node:https";
import type { Duplex } from "node:stream";
import { HttpGuard, type HttpRefusal } from "@caisson/linux";
import type { TlsMaterial } from "../tls.ts";
import { HTTP_LIMITS, KEEP_ALIVE_MS, MAX_HEADER_BYTES } from "./http-limits.ts";

const OPTIONS = {
  maxHeaderSize: MAX_HEADER_BYTES,
  keepAlive: true,
  keepAliveInitialDelay: KEEP_ALIVE_MS,
  // Said in our own words (`requireHost`).
  requireHostHeader: false,
  shouldUpgradeCallback: isWebSocket,
};
const HANDSHAKE_TIMEOUT_MS = 5_000;

/** Answers and ends the connection of a client that is too slow. */
type Refuse = (refusal: HttpRefusal, socket: Duplex) => void;

/** A server of HTTP, with TLS or without, whose clients, known or not, cannot cost more than the limits say. */
export function createGuardedServer(handle: RequestListener, tls: TlsMaterial | null, refuse: Refuse): Server {
  const guard = new HttpGuard(HTTP_LIMITS, handle, refuse);
  const server =
    tls === null
      ? createHttp(OPTIONS)
      : createHttps({ ...OPTIONS, ...tls, handshakeTimeout: HANDSHAKE_TIMEOUT_MS, ALPNProtocols: ["http/1.1"] });
  guard.attach(server, tls === null ? "connection" : "secureConnection");
  // An expectation that nobody knows may be ignored (RFC 9110, section 10.1.1).
  server.on("checkExpectation", (request, response) => server.emit("request", request, response));
  return server;
}

/** Another protocol that a client offers, such as HTTP/2, is not taken, and its request is answered as it is. */
export function isWebSocket({ method, headers }: IncomingMessage): boolean {
  const offers = (headers.upgrade ?? "").split(",").map((offer) => offer.trim().toLowerCase());
  return method === "GET" && offers.includes("websocket");
}
