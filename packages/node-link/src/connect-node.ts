import { once } from "node:events";
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2, constants } from "node:http2";
import type { Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { NodeDescription } from "@caisson/node";
import { isAnswer } from "./answers.ts";
import { type ShownCertificate, shownCertificate } from "./certificate-renewal.ts";
import { type LinkCredentials, nodeName, TLS_OPTIONS } from "./credentials.ts";
import { CONNECTION_WINDOW_BYTES, maxAnswerBytes, SESSION_OPTIONS } from "./limits.ts";
import { decodeError, explainConnectionError } from "./link-error.ts";
import { readAnswer } from "./read-answer.ts";
import type { LinkLogger } from "./serve-node.ts";
import { breakOff, watchPeer } from "./watch-peer.ts";

export interface NodeAddress {
  readonly host: string;
  readonly port: number;
}

/** A connection to a node. */
export interface Link {
  readonly session: ClientHttp2Session;
  readonly socket: Socket;
  readonly address: NodeAddress;
  readonly description: NodeDescription;
  /** Of what the node shows. */
  certificate: ShownCertificate;
  isReceivingEvents: boolean;
}

export interface ConnectOptions {
  readonly nodeId: string;
  readonly address: NodeAddress;
  readonly timeoutMs: number;
  /** Aborted, it ends the try, and later the connection. */
  readonly closing: AbortSignal;
  readonly logger: LinkLogger;
}

/** Why there is no connection; its message is the end of a sentence. */
export class LinkProblem extends Error {
  /** It may be that the node does not accept the certificate that this server has shown. */
  readonly isRefusal: boolean;

  constructor(message: string, options: { readonly cause?: unknown; readonly isRefusal?: boolean } = {}) {
    super(message, options);
    this.isRefusal = options.isRefusal ?? false;
  }
}

/** Connects to a node with the first of these credentials that it accepts, and asks it what it is. Rejects with a `LinkProblem` when the network was used. */
export async function connectNode(options: ConnectOptions, credentials: readonly LinkCredentials[]): Promise<Link> {
  const timeout = AbortSignal.timeout(options.timeoutMs);
  let refusal = new Error("this server has no certificate");
  for (const shown of credentials) {
    try {
      return await connectAs(shown, options, timeout);
    } catch (error) {
      if (!(error instanceof LinkProblem && error.isRefusal)) throw error;
      refusal = error;
    }
  }
  throw refusal;
}

async function connectAs(credentials: LinkCredentials, options: ConnectOptions, timeout: AbortSignal): Promise<Link> {
  const { nodeId, address, closing, logger } = options;
  const { host, port } = address;
  const { cert, key, authority } = credentials;
  const name = nodeName(nodeId);
  const shown = `${host.includes(":") ? `[${host}]` : host}:${port}`;
  const socket = connectTls({ ...TLS_OPTIONS, host, port, servername: name, cert, key, ca: authority });
  socket.setNoDelay(true);
  // The node checks this server's certificate when this server has checked the node's.
  let isNodeKnown = false;
  socket.once("secureConnect", () => {
    isNodeKnown = true;
  });
  const session = connectHttp2(`https://${name}`, { ...SESSION_OPTIONS, createConnection: () => socket });
  const signal = AbortSignal.any([closing, timeout]);
  try {
    await settled(session, once(session, "remoteSettings", { signal }));
    session.on("error", () => {});
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    const stream = requestOn(session, "describe", {});
    stream.end("[]");
    const onAbort = () => stream.close(constants.NGHTTP2_CANCEL);
    signal.addEventListener("abort", onAbort, { once: true });
    const answer = await readAnswer(stream, maxAnswerBytes("describe"));
    signal.removeEventListener("abort", onAbort);
    if (answer.kind === "lost")
      throw new LinkProblem(
        `${shown} ended the connection: look at the node's log, it may not accept this server's certificate`,
        { isRefusal: true },
      );
    if (answer.kind === "error")
      throw new LinkProblem(`it cannot describe itself: ${decodeError(answer.error).message}`);
    if (answer.kind === "wrong" || !isAnswer("describe", answer.value))
      throw new LinkProblem("it describes itself in a way that is not known here: give it the version of the server");
    const onClosing = () => breakOff(session, socket);
    closing.addEventListener("abort", onClosing, { once: true });
    session.once("close", () => closing.removeEventListener("abort", onClosing));
    watchPeer(session, socket, () => {
      logger.warn({ nodeId }, "the node does not answer any more: the connection is ended");
      breakOff(session, socket);
    });
    return {
      session,
      socket,
      address,
      description: answer.value as NodeDescription,
      certificate: shownCertificate(socket.getPeerX509Certificate()?.toString() ?? ""),
      isReceivingEvents: false,
    };
  } catch (error) {
    session.on("error", () => {});
    session.destroy();
    socket.destroy();
    if (error instanceof LinkProblem) throw error;
    if (timeout.aborted) throw new LinkProblem(`${shown} does not answer: look at the machine and the network`);
    // The session says only that it is closed.
    const cause = socket.errored ?? error;
    throw new LinkProblem(explainConnectionError(cause, shown), { cause, isRefusal: isNodeKnown });
  }
}

/** Begins a request, whose body the caller writes. */
export function requestOn(
  session: ClientHttp2Session,
  method: string,
  headers: Readonly<Record<string, string>>,
): ClientHttp2Stream {
  const stream = session.request({ ":method": "POST", ":path": `/${method}`, ...headers }, { endStream: false });
  // Its close says all.
  return stream.on("error", () => {});
}

/** A session that is closed before says nothing else. */
async function settled(session: ClientHttp2Session, awaited: Promise<unknown>): Promise<void> {
  const closed = Promise.withResolvers<never>();
  const onClose = () => closed.reject(new Error("the connection was closed"));
  session.once("close", onClose);
  try {
    await Promise.race([awaited, closed.promise]);
  } finally {
    session.off("close", onClose);
  }
}
