import { request as httpRequest, type IncomingMessage, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import type { Preview } from "../app/previews/preview.ts";
import { watchClient } from "../connections/client-watch.ts";
import { endConnection } from "../http/end-connection.ts";
import { type RequestOrigin, requestHeaders, responseHeaders } from "./headers.ts";
import { type Refusal, refusalAnswer } from "./refusal.ts";

/**
 * Hands a client's upgrade to WebSocket to the server inside. When that switches protocols, bytes are copied with the back-pressure of both sides,
 * and when one side ends so does the other; any other answer is passed on, and ends the connection.
 */
export function forwardUpgrade(
  preview: Preview,
  origin: RequestOrigin,
  connection: Duplex,
  request: IncomingMessage,
  { socket, head }: { readonly socket: Duplex; readonly head: Buffer },
): void {
  const upstream = httpRequest({
    createConnection: () => connection,
    method: "GET",
    path: request.url ?? "/",
    headers: [...requestHeaders(request.rawHeaders, preview, origin), "connection", "Upgrade", "upgrade", "websocket"],
    setHost: false,
  });
  upstream.on("upgrade", (answer, _connection, first) => {
    writeHead(socket, answer, ["connection: Upgrade", "upgrade: websocket"]);
    if (first.length > 0) socket.write(first);
    if (head.length > 0) connection.write(head);
    socket.pipe(connection);
    connection.pipe(socket);
    connection.once("close", () => endConnection(socket));
    watchClient(socket);
  });
  upstream.on("response", (answer) => {
    writeHead(socket, answer, ["connection: close"]);
    answer.on("error", () => socket.destroy());
    answer.on("end", () => endConnection(socket));
    answer.pipe(socket, { end: false });
  });
  upstream.on("error", () => {
    if (connection.destroyed && socket.writable) refuseUpgrade(socket, "bad-answer");
    else socket.destroy();
  });
  connection.on("error", () => undefined);
  socket.once("close", () => connection.destroy());
  upstream.end();
}

function writeHead(socket: Duplex, { statusCode = 502, rawHeaders }: IncomingMessage, more: readonly string[]): void {
  const lines = Object.entries(responseHeaders(rawHeaders)).flatMap(([name, values]) =>
    [values].flat().map((value) => `${name}: ${value}`),
  );
  socket.write(
    Buffer.from(
      `HTTP/1.1 ${statusCode} ${STATUS_CODES[statusCode] ?? ""}\r\n${[...lines, ...more].join("\r\n")}\r\n\r\n`,
      "latin1",
    ),
  );
}

/** Answers on a bare connection, and ends it. */
export function refuseUpgrade(socket: Duplex, refusal: Refusal): void {
  const { status, headers, body } = refusalAnswer(refusal);
  const lines = Object.entries({ ...headers, connection: "close" }).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n${lines.join("")}\r\n${body}`);
  endConnection(socket);
}
