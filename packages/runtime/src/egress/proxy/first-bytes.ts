import type { Socket } from "node:net";

/**
 * What a client's first bytes show. `http`: all that a server of HTTP/1 may take for a request, the lenient ones included. `other`: none of these, for
 * example a database's own protocol.
 */
export type WireProtocol = "tls" | "http" | "ssh" | "other";

const FIRST_LINE_BYTES_MAX = 16 * 1024;
/** Looking again for each byte would cost much; a client that sends a line in more pieces than this meets the strict parser. */
const CHUNKS_MAX = 256;
const TLS_HANDSHAKE = 0x16;

/**
 * Reads the protocol from the first bytes and puts them back, so that the handler of the connection sees all of it. Waits as long as the client
 * is silent; null: it ended, or the signal fired, before it could be told. The socket is paused before and after.
 */
export async function readProtocol(socket: Socket, signal: AbortSignal): Promise<WireProtocol | null> {
  let seen: Buffer = Buffer.alloc(0);
  for (let count = 1; ; count += 1) {
    const chunk = await nextChunk(socket, signal);
    if (chunk === null) {
      if (signal.aborted && seen.length > 0) socket.unshift(seen);
      return null;
    }
    seen = Buffer.concat([seen, chunk]);
    const protocol = protocolOf(seen);
    if (protocol === null && count < CHUNKS_MAX) continue;
    socket.unshift(seen);
    return protocol ?? "http";
  }
}

/** What servers skip before a request, or may be lenient enough to skip. */
const LEADING_SPACE = /^[\s\0]+/;
/** A method and what ends it; lenient servers take any white space within the line (RFC 9112, section 3). */
const METHOD = /^[!#$%&'*+.^_`|~0-9a-z-]+(?:[ \t\v\f]|\r(?!\n))/i;
/**
 * A request line without "HTTP/" that some servers take all the same: without a version (HTTP/0.9), or with that of a protocol made like HTTP, such as RTSP
 * or ICE. Its target is a path, "*" or a URL.
 */
const TARGET = /^\S+\s+(?:\/|\*|https?:)/i;
/** The line with which SSH begins (RFC 4253, section 4.2). */
const SSH = "SSH-";
const METHOD_SO_FAR = /^[!#$%&'*+.^_`|~0-9a-z-]*\r?$/i;

/**
 * HTTP is what begins with a method and has a first line that says so or names a target, or one too long to be seen whole: what a server would take for
 * a request must not pass as another protocol. Null: not to be told yet.
 */
export function protocolOf(bytes: Buffer): WireProtocol | null {
  if (bytes[0] === TLS_HANDSHAKE) return "tls";
  const isAllThatIsSeen = bytes.length >= FIRST_LINE_BYTES_MAX;
  const text = bytes.toString("latin1").replace(LEADING_SPACE, "");
  if (isSsh(bytes)) return bytes.length < SSH.length ? null : "ssh";
  if (METHOD_SO_FAR.test(text)) return isAllThatIsSeen ? "http" : null;
  if (!METHOD.test(text)) return "other";
  const [line = "", rest] = text.split("\n", 2);
  if (/HTTP\//i.test(line) || TARGET.test(line)) return "http";
  if (rest !== undefined) return "other";
  return isAllThatIsSeen ? "http" : null;
}

/** Whether the bytes are those of SSH, as far as they go. */
export function isSsh(bytes: Buffer): boolean {
  return bytes.length > 0 && SSH.startsWith(bytes.toString("latin1", 0, SSH.length));
}

async function nextChunk(socket: Socket, signal: AbortSignal): Promise<Buffer | null> {
  for (;;) {
    if (signal.aborted) return null;
    const chunk = socket.read() as Buffer | null;
    if (chunk !== null) return chunk;
    if (socket.readableEnded || socket.destroyed) return null;
    const { promise, resolve } = Promise.withResolvers<void>();
    const events = ["readable", "end", "close", "error"] as const;
    for (const event of events) socket.once(event, resolve);
    signal.addEventListener("abort", () => resolve(), { once: true });
    await promise;
    for (const event of events) socket.removeListener(event, resolve);
  }
}
