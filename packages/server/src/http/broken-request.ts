import type { Duplex } from "node:stream";
import { CaissonError } from "@caisson/model";
import { endConnection } from "./end-connection.ts";
import { errorBody } from "./errors.ts";

/** All headers of a request together. Variables, secrets and labels of a create travel in one of them, in base64 (protocol.md 1.4). */
export const MAX_HEADER_BYTES = 2 * 2 ** 20;
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
  const body = JSON.stringify(errorBody(refusal));
  socket.write(
    `HTTP/1.1 ${status} ${refusal.code}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
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
