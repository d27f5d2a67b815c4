import type { Duplex } from "node:stream";
import { CaissonError } from "@caisson/model";
import { HTTP_LIMITS, type HttpRefusal, MAX_HEADER_BYTES } from "../connections/http-limits.ts";
import { endConnection } from "./end-connection.ts";
import { errorBody } from "./errors.ts";

type Headers = Readonly<Record<string, string | number>>;

/** What a TLS client says first. */
const TLS_HANDSHAKE = 0x16;

interface ParserError extends Error {
  readonly code?: string;
  /** The bytes that could not be read. */
  readonly rawPacket?: unknown;
}

/** Answers what never became a request, in the form of every other error, and says why where the parser only says "bad request". */
export function answerBrokenRequest(error: ParserError, socket: Duplex): void {
  // A client that is gone needs no answer.
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const { status, refusal } = refusalOf(error);
  answerAndEnd(socket, refusal, { status });
}

/** Answers a client that takes too long to send its request, or sends it so that it costs too much. */
export function answerSlowRequest(refusal: HttpRefusal, socket: Duplex): void {
  const { status, message } = SLOW_REQUESTS[refusal];
  answerAndEnd(socket, new CaissonError("INVALID_REQUEST", message), { status });
}

const late = (part: string, limitMs: number) => ({
  status: 408,
  message: `The ${part} of the request did not come within ${limitMs / 1000} s: send it again, faster`,
});
const SLOW_REQUESTS: Readonly<Record<HttpRefusal, { readonly status: number; readonly message: string }>> = {
  "late-headers": late("headers", HTTP_LIMITS.headersMs),
  "late-body": late("body", HTTP_LIMITS.bodyMs),
  "headers-in-pieces": {
    status: 400,
    message: "The headers of the request come in too many tiny pieces: send them at once",
  },
};

/** Answers on a bare connection, in the form of every other error, and ends it. */
export function answerAndEnd(
  socket: Duplex,
  error: CaissonError,
  { status = error.status, headers = {} }: { readonly status?: number; readonly headers?: Headers } = {},
): void {
  const body = JSON.stringify(errorBody(error));
  const all = {
    "Content-Type": "application/json",
    "Content-Length": Buffer.byteLength(body),
    Connection: "close",
    ...(error.retryAfterSeconds === null ? {} : { "Retry-After": error.retryAfterSeconds }),
    ...headers,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`HTTP/1.1 ${status} ${error.code}\r\n${lines.join("")}\r\n${body}`);
  endConnection(socket);
}

function refusalOf(error: ParserError): { readonly status: number; readonly refusal: CaissonError } {
  if (error.code === "HPE_HEADER_OVERFLOW") {
    const message =
      `The headers of a request may have ${MAX_HEADER_BYTES} bytes in all, and a create's options travel in one of them. ` +
      "Give fewer or shorter variables, and write large values to files of the sandbox";
    return { status: 431, refusal: new CaissonError("PAYLOAD_TOO_LARGE", message, { cause: error }) };
  }
  const message =
    Buffer.isBuffer(error.rawPacket) && error.rawPacket[0] === TLS_HANDSHAKE
      ? "This port speaks HTTP, and the client began with TLS: use an address that begins with http://, or put a TLS proxy in front"
      : "The request is not valid HTTP";
  return { status: 400, refusal: new CaissonError("INVALID_REQUEST", message, { cause: error }) };
}
