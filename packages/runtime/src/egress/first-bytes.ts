import type { Socket } from "node:net";

/** What a client's first bytes show. `other`: neither TLS nor HTTP/1, for example SSH or a database's own protocol. */
export type WireProtocol = "tls" | "http" | "other";

const FIRST_LINE_BYTES_MAX = 16 * 1024;
const TLS_HANDSHAKE = 0x16;

/**
 * Reads the protocol from the first bytes and puts them back, so that whoever handles the connection sees all of it. Waits as long as the client
 * is silent; null: it ended, or the signal fired, before it could be told. The socket is paused before and after.
 */
export async function readProtocol(socket: Socket, signal: AbortSignal): Promise<WireProtocol | null> {
  let seen: Buffer = Buffer.alloc(0);
  for (;;) {
    const chunk = await nextChunk(socket, signal);
    if (chunk === null) {
      if (seen.length > 0) socket.unshift(seen);
      return null;
    }
    seen = Buffer.concat([seen, chunk]);
    const protocol = protocolOf(seen);
    if (protocol === null) continue;
    socket.unshift(seen);
    return protocol;
  }
}

/**
 * HTTP is what has a first line that says so. Servers skip empty lines before it, so they are skipped here too: what a server would take for a
 * request must not pass as another protocol. Null: not to be told yet.
 */
export function protocolOf(bytes: Buffer): WireProtocol | null {
  if (bytes[0] === TLS_HANDSHAKE) return "tls";
  const text = bytes
    .subarray(0, FIRST_LINE_BYTES_MAX)
    .toString("latin1")
    .replace(/^[\s\0]+/, "");
  const line = /^[^\n]*/.exec(text)?.[0] ?? "";
  if (/HTTP\//i.test(line)) return "http";
  const isLineComplete = line.length < text.length || bytes.length >= FIRST_LINE_BYTES_MAX;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what tells a binary protocol from text.
  if (isLineComplete || /[\x00-\x08\x0e-\x1f\x7f]/.test(line)) return "other";
  return null;
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
