import { type ClientRequest, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { Duplex } from "node:stream";
import type { Preview } from "../app/previews/preview.ts";
import type { Incoming } from "./find-preview.ts";
import { type RequestOrigin, requestHeaders, responseHeaders } from "./headers.ts";
import { type Refusal, refusalAnswer } from "./refusal.ts";

export type Outgoing = ServerResponse | Http2ServerResponse;

/** Larger heads of answers are refused. */
const MAX_ANSWER_HEAD_BYTES = 64 * 1024;

/**
 * Sends a request to the server inside, on a connection of its own, and its answer to the client. Both bodies pass as they come, as fast as their
 * reader takes them, and both messages are written anew from what was understood of them: what a client or a sandbox frames in two ways never gets
 * to the other side.
 */
export function forwardRequest(
  preview: Preview,
  origin: RequestOrigin,
  connection: Duplex,
  request: Incoming,
  response: Outgoing,
): void {
  const upstream = httpRequest({
    createConnection: () => connection,
    method: request.method ?? "GET",
    path: request.url ?? "/",
    headers: [...requestHeaders(request.rawHeaders, preview, origin), ...framing(request), "connection", "close"],
    setHost: false,
    maxHeaderSize: MAX_ANSWER_HEAD_BYTES,
  });
  upstream.on("response", (answer) => pass(answer, upstream, response));
  // A 101 that nobody asked for.
  upstream.on("upgrade", () => fail(upstream, response));
  upstream.on("error", () => fail(upstream, response));
  response.on("close", () => upstream.destroy());
  request.on("error", () => upstream.destroy());
  if (hasBody(request)) request.pipe(upstream);
  else upstream.end();
}

/** How the body is framed for the server inside: by its length where the client said it, and in chunks otherwise. */
function framing(request: Incoming): readonly string[] {
  const length = request.headers["content-length"];
  if (length !== undefined) return ["content-length", length];
  return hasBody(request) ? ["transfer-encoding", "chunked"] : [];
}

function hasBody(request: Incoming): boolean {
  if (request instanceof Http2ServerRequest) return !request.stream.endAfterHeaders;
  return request.headers["transfer-encoding"] !== undefined || Number(request.headers["content-length"] ?? 0) > 0;
}

function pass(answer: IncomingMessage, upstream: ClientRequest, response: Outgoing): void {
  try {
    writeHead(response, answer.statusCode ?? 502, responseHeaders(answer.rawHeaders));
  } catch {
    // Such as a status that there is not.
    fail(upstream, response);
    return;
  }
  answer.on("error", () => breakOff(response));
  answer.on("end", () => {
    if (Object.keys(answer.trailers).length > 0) response.addTrailers(trailersOf(answer));
  });
  (answer as NodeJS.ReadableStream).pipe(response as NodeJS.WritableStream);
}

/** One value for each name (RFC 9110, section 5.3): Node throws where HTTP/2 does not let a name have several, when nobody can catch that any more. */
function trailersOf({ rawTrailers }: IncomingMessage): Record<string, string> {
  const trailers = Object.entries(responseHeaders(rawTrailers));
  return Object.fromEntries(trailers.map(([name, values]) => [name, [values].flat().join(", ")]));
}

function fail(upstream: ClientRequest, response: Outgoing): void {
  if (response.headersSent) breakOff(response);
  else refuse(response, "bad-answer");
  upstream.destroy();
}

/** Whether the client has left. An answer of HTTP/2 has no `destroyed`, only its stream has. */
export function isGone(response: Outgoing): boolean {
  return "stream" in response ? response.stream.destroyed : response.destroyed;
}

/** A client must not take half an answer for a whole one. */
export function breakOff(response: Outgoing): void {
  if ("stream" in response) response.stream.close(INTERNAL_ERROR);
  else response.destroy();
}

/** NGHTTP2_INTERNAL_ERROR */
const INTERNAL_ERROR = 2;

export function refuse(response: Outgoing, refusal: Refusal): void {
  if (response.headersSent || response.writableEnded) return;
  const { status, headers, body } = refusalAnswer(refusal);
  writeHead(response, status, { ...headers });
  response.end(body);
}

export function writeHead(response: Outgoing, status: number, headers: Record<string, string | string[]>): void {
  if (response instanceof Http2ServerResponse) {
    response.writeHead(status, headers);
    return;
  }
  response.writeHead(status, headers);
  // With the first piece of the body, if that is there already; else alone, since the body may be long in coming.
  setImmediate(() => {
    if (!response.destroyed && !response.writableEnded) response.flushHeaders();
  });
}
