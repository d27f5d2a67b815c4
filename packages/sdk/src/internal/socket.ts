import { Buffer } from "node:buffer";
import type { ClientRequest, IncomingMessage } from "node:http";
import WebSocket from "ws";
import { ConnectionEstablishmentError, NetworkError } from "../core/errors.ts";
import { toApiError } from "../core/http.ts";

/** A little less than the longest text that V8 can hold, which a message becomes. */
const MAX_MESSAGE_BYTES = 500 * 1024 * 1024;

/** Longest body of a refusal that is read. */
const MAX_REFUSAL_BYTES = 64 * 1024;

/** How to open a connection. */
export interface SocketOptions {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** What the answer to the upgrade said. */
export interface UpgradeAnswer {
  readonly sandboxId: string | null;
  readonly requestId: string | null;
  /** When the sandbox ends at the latest; `null` when its connection decides. */
  readonly stopAt: Date | null;
  /** What the server's clock showed, to the second; ours when it did not say. */
  readonly answeredAt: Date;
}

/**
 * Opens a WebSocket. The npm package `ws` is used on every runtime, because the WebSocket of the platforms shows neither the headers
 * of the answer (the sandbox's id is there and nowhere else) nor the status and body of a refusal.
 * `accept` runs in the very event that reports the opening, so that no message and no close can be missed.
 * Throws {@linkcode ConnectionEstablishmentError} when the server refuses and {@linkcode NetworkError} when it cannot be reached.
 */
export function openSocket<T>(
  options: SocketOptions,
  accept: (socket: WebSocket, answer: UpgradeAnswer) => T,
): Promise<T> {
  const { url, headers, timeoutMs, signal } = options;
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const webSocketUrl = new URL(url);
    webSocketUrl.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(webSocketUrl, {
      headers,
      handshakeTimeout: timeoutMs,
      maxPayload: MAX_MESSAGE_BYTES,
      // Compression would cost more processor time than the local network costs.
      perMessageDeflate: false,
      generateMask: leaveAsItIs,
    });
    let answer: UpgradeAnswer | null = null;

    const settle = (finish: () => void): void => {
      signal?.removeEventListener("abort", abort);
      socket.removeAllListeners();
      finish();
    };
    const fail = (error: unknown): void =>
      settle(() => {
        // Ending an unfinished handshake makes `ws` report an error, which is this one already.
        socket.on("error", () => undefined);
        socket.terminate();
        reject(error);
      });
    const abort = (): void => fail(signal?.reason);

    signal?.addEventListener("abort", abort, { once: true });
    socket.on("upgrade", (response) => {
      answer = readAnswer(response);
    });
    socket.on("open", () =>
      settle(() => {
        try {
          if (answer === null) throw new TypeError("The connection opened without an answer");
          resolve(accept(socket, answer));
        } catch (error) {
          reject(error);
        }
      }),
    );
    socket.on("unexpected-response", (_request: ClientRequest, response: IncomingMessage) => {
      readRefusal(response).then(fail, fail);
    });
    socket.on("error", (cause) => {
      fail(new NetworkError(describeFailure(options, cause), { cause }));
    });
  });
}

/**
 * A mask of zeroes, with which `ws` spares the pass over the bytes. Masks keep scripts in browsers from writing what a proxy on the way could take for requests
 * of HTTP (RFC 6455, section 10.3). This is no browser, and what it sends is JSON, in which no line can end.
 */
function leaveAsItIs(mask: Buffer): void {
  mask.fill(0);
}

function describeFailure({ url, timeoutMs }: SocketOptions, cause: Error): string {
  // The words of `ws`.
  if (cause.message === "Opening handshake has timed out")
    return `${url.origin} did not open the connection to the sandbox within ${timeoutMs} ms; the option connectTimeoutMs sets how long to wait`;
  return `Cannot reach ${url.origin}: ${cause.message || String(cause)}. Is the server running?`;
}

function readAnswer(response: IncomingMessage): UpgradeAnswer {
  const stopAtMs = header(response, "x-caisson-stop-at-ms");
  const date = header(response, "date");
  return {
    sandboxId: header(response, "x-deno-sandbox-id"),
    requestId: header(response, "x-deno-trace-id"),
    stopAt: stopAtMs === null ? null : new Date(Number(stopAtMs)),
    answeredAt: date === null ? new Date() : new Date(date),
  };
}

async function readRefusal(response: IncomingMessage): Promise<ConnectionEstablishmentError> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > MAX_REFUSAL_BYTES) break;
  }
  const headers = new Headers();
  const id = header(response, "x-deno-trace-id");
  if (id !== null) headers.set("x-deno-trace-id", id);
  const body = Buffer.concat(chunks).toString("utf8");
  const error = toApiError({ status: response.statusCode ?? 0, headers }, body);
  return new ConnectionEstablishmentError(error.status, error.code, error.message, error.requestId, error.hint);
}

function header(response: IncomingMessage, name: string): string | null {
  const value = response.headers[name];
  return typeof value === "string" ? value : null;
}
