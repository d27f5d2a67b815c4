import { constants as cryptoConstants } from "node:crypto";
import { once } from "node:events";
import { createSecureServer, type Http2SecureServer, type ServerHttp2Session } from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Node } from "@caisson/node";
import { answerStream, type OnDismissed, type ServedCalls } from "./answer-stream.ts";
import { type CertificateRenewal, NO_RENEWAL } from "./certificate-renewal.ts";
import { CONTROL_NAME, isSignedByOneOf, type LinkCredentials, TLS_OPTIONS } from "./credentials.ts";
import { GenerationGate } from "./generation-gate.ts";
import { CONNECTION_WINDOW_BYTES, SESSION_OPTIONS } from "./limits.ts";
import type { NodeEvents } from "./node-events.ts";
import { breakOff, watchPeer } from "./watch-peer.ts";

const HANDSHAKE_TIMEOUT_MS = 5_000;
/** Connections that have not shown a certificate yet. When there are more, the oldest goes, so that a server still gets in. */
const MAX_STRANGERS = 64;
const UNKNOWN_PROTOCOL_MS = 1_000;

export interface LinkLogger {
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
}

export interface ServeNodeOptions {
  readonly node: Node;
  /** What the node was opened with; it goes to the server that is connected. */
  readonly events: NodeEvents;
  readonly credentials: LinkCredentials;
  /** Default: it takes no dismissal. */
  readonly onDismissed?: OnDismissed;
  /** This run was shut out. Default: it goes on, and every call fails that needs what it is shut out of. */
  readonly onExpelled?: () => void;
  /** Default: it takes no other certificate than that of `credentials`. */
  readonly renewal?: CertificateRenewal;
  /** Null: every address of this machine. */
  readonly host: string | null;
  /** 0: any that is free. */
  readonly port: number;
  readonly logger: LinkLogger;
}

export interface ServedNode extends AsyncDisposable {
  readonly port: number;
  /** Whether a server is connected. */
  hasControl(): boolean;
}

/**
 * Serves a node to the servers of its installation: over TLS 1.3, to those that show a certificate for `CONTROL_NAME`. Closing it cuts off what is under way. Rejects with the kernel's
 * error when the address cannot be listened on.
 */
export async function serveNode(options: ServeNodeOptions): Promise<ServedNode> {
  const {
    node,
    events,
    credentials,
    host,
    port,
    logger,
    onDismissed = refuseDismissal,
    onExpelled = () => {},
    renewal = NO_RENEWAL,
  } = options;
  const { runId } = await node.describe();
  const sessions = new Map<ServerHttp2Session, TLSSocket>();
  let believed = credentials.authority;
  const isBelieved = (socket: TLSSocket): boolean => {
    const certificate = socket.getPeerX509Certificate();
    return certificate !== undefined && isSignedByOneOf(believed, certificate);
  };
  const calls: ServedCalls = {
    node,
    events,
    gate: new GenerationGate(runId),
    onDismissed,
    onExpelled,
    renewal: {
      request: () => renewal.request(),
      async accept(signed, bringing) {
        const renewed = await renewal.accept(signed);
        // Connections that stand stay as they are.
        server.setSecureContext(contextOf(renewed));
        believed = renewed.authority;
        logger.info({}, "this node has a new certificate");
        for (const [session, socket] of sessions) {
          if (session === bringing || isBelieved(socket)) continue;
          logger.warn(
            { peer: peerOf(socket) },
            "the authority of a server's certificate was retired: its connection is ended",
          );
          breakOff(session, socket);
        }
      },
    },
    keepOnly(leading) {
      for (const [session, socket] of sessions) {
        if (session === leading) continue;
        logger.warn({ peer: peerOf(socket) }, "another server leads now: the connection of this one is ended");
        breakOff(session, socket);
      }
    },
  };
  const server = createSecureServer({
    ...TLS_OPTIONS,
    ...SESSION_OPTIONS,
    ...contextOf(credentials),
    requestCert: true,
    allowHTTP1: false,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    unknownProtocolTimeout: UNKNOWN_PROTOCOL_MS,
  });
  const strangers = new Strangers(server);
  // A session shows a stand-in of its socket, and only as long as it lasts.
  let accepted: TLSSocket | null = null;
  server.prependListener("secureConnection", (socket) => {
    accepted = socket;
  });
  server.on("session", (session) => {
    session.on("error", () => {});
    const socket = accepted ?? (session.socket as TLSSocket);
    const peer = peerOf(socket);
    // Every certificate here is of an authority that was believed when the connection began; that of another node is not for this name.
    if (socket.getPeerX509Certificate()?.checkHost(CONTROL_NAME) === undefined || !isBelieved(socket)) {
      logger.warn({ peer }, `refused a connection: its certificate is not that of a server (${CONTROL_NAME})`);
      session.destroy();
      return;
    }
    logger.info({ peer }, "a server has connected");
    sessions.set(session, socket);
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    session.once("close", () => {
      sessions.delete(session);
      logger.info({ peer }, "the connection of a server has ended");
    });
    watchPeer(session, socket, () => {
      logger.warn({ peer }, "a server does not answer any more: its connection is ended");
      breakOff(session, socket);
    });
    session.on("stream", (stream, headers) => answerStream(calls, stream, headers));
  });
  // One bad connection is no failure of the listener.
  server.on("sessionError", () => {});
  server.on("tlsClientError", () => {});
  server.listen({ port, ...(host === null ? {} : { host }) });
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    hasControl: () => sessions.size > 0,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      strangers.destroy();
      for (const [session, socket] of sessions) breakOff(session, socket);
      await closed;
    },
  };
}

/** All that `setSecureContext` would forget. */
function contextOf({ cert, key, authority }: LinkCredentials) {
  const { minVersion } = TLS_OPTIONS;
  // A resumed session would not be checked again.
  return { cert, key, ca: authority, minVersion, secureOptions: cryptoConstants.SSL_OP_NO_TICKET };
}

async function refuseDismissal(): Promise<void> {
  throw new Error("This node takes no dismissal");
}

/** Connections that have not finished their handshake: there are never many of them, and a new one always gets in. */
class Strangers {
  readonly #sockets = new Map<string, Socket>();

  constructor(server: Http2SecureServer) {
    server.on("connection", (socket: Socket) => {
      const key = peerOf(socket);
      this.#sockets.set(key, socket);
      socket.once("close", () => this.#sockets.delete(key));
      const [oldest] = this.#sockets.values();
      if (this.#sockets.size > MAX_STRANGERS) oldest?.destroy();
    });
    server.on("secureConnection", (socket: TLSSocket) => this.#sockets.delete(peerOf(socket)));
  }

  destroy(): void {
    for (const socket of this.#sockets.values()) socket.destroy();
  }
}

function peerOf(socket: Socket): string {
  return `${socket.remoteAddress}:${socket.remotePort}`;
}
