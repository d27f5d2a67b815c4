import { startTimer } from "../host/timers.ts";
import { sha1 } from "./sha1.ts";
import type { ByteStream } from "./websocket.ts";

/** The forwarded upgrade carries the client's headers, of which one may be 64 KiB (protocol.md 1.4). */
const MAX_HEAD_BYTES = 256 * 1024;
const HEAD_TIMEOUT_MS = 10_000;
const HEAD_END = "\r\n\r\n";

export interface Request {
  readonly method: string;
  readonly path: string;
  /** Without the question mark. */
  readonly query: string;
  /** Names in lower case. Where a name came twice, the last. */
  readonly headers: ReadonlyMap<string, string>;
  /** What arrived behind the head. */
  readonly leftover: Uint8Array;
}

/** Reads the head of a request; null when the peer sent none that could be understood in time. */
export async function readRequest(stream: ByteStream): Promise<Request | null> {
  const stopTimer = startTimer(HEAD_TIMEOUT_MS, () => stream.close());
  try {
    let bytes = new Uint8Array(4 * 1024);
    let used = 0;
    for (;;) {
      if (used === bytes.length) {
        const larger = new Uint8Array(bytes.length * 2);
        larger.set(bytes);
        bytes = larger;
      }
      const received = await stream.read(bytes.subarray(used));
      if (received === null) return null;
      const from = Math.max(0, used - HEAD_END.length);
      used += received;
      const end = indexOfHeadEnd(bytes.subarray(0, used), from);
      if (end !== -1) return parseHead(bytes.subarray(0, end), bytes.slice(end + HEAD_END.length, used));
      if (used > MAX_HEAD_BYTES) return null;
    }
  } catch {
    // The peer went away or took too long; there is nobody to answer.
    return null;
  } finally {
    stopTimer();
  }
}

/** Reads the body of a request that says how long it is. Throws where it ends early or is longer than `maxBytes`. */
export async function readBody(stream: ByteStream, { headers, leftover }: Request, maxBytes: number): Promise<string> {
  const length = Number(headers.get("content-length") ?? 0);
  if (!(length <= maxBytes)) throw new Error(`A body of ${length} bytes is too large`);
  const body = new Uint8Array(length);
  let used = Math.min(leftover.length, length);
  body.set(leftover.subarray(0, used));
  while (used < length) {
    const received = await stream.read(body.subarray(used));
    if (received === null) throw new Error("A request ended before its body did");
    used += received;
  }
  return new TextDecoder().decode(body);
}

/** Answers and leaves the connection to be closed. */
export async function respond(stream: ByteStream, status: string, body = ""): Promise<void> {
  const head = `HTTP/1.1 ${status}\r\nContent-Type: text/plain\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`;
  await writeAll(stream, head + body);
}

/** The GUID of RFC 6455 section 1.3. */
const ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** Answers an upgrade with 101; refuses it when it is not a WebSocket's, and says so by returning false. */
export async function acceptUpgrade(stream: ByteStream, { method, headers }: Request): Promise<boolean> {
  const key = headers.get("sec-websocket-key");
  const isUpgrade = method === "GET" && headers.get("upgrade")?.toLowerCase() === "websocket";
  if (!isUpgrade || key === undefined || headers.get("sec-websocket-version") !== "13") {
    await respond(stream, "426 Upgrade Required", "Connect with a WebSocket of version 13");
    return false;
  }
  const accept = sha1(key + ACCEPT_GUID).toBase64();
  const head = [
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: Upgrade",
    `Sec-WebSocket-Accept: ${accept}`,
  ];
  await writeAll(stream, head.join("\r\n") + HEAD_END);
  return true;
}

async function writeAll(stream: ByteStream, text: string): Promise<void> {
  let bytes = new TextEncoder().encode(text);
  while (bytes.length > 0) bytes = bytes.subarray(await stream.write(bytes));
}

function indexOfHeadEnd(bytes: Uint8Array, from: number): number {
  for (let index = bytes.indexOf(0x0d, from); index !== -1; index = bytes.indexOf(0x0d, index + 1)) {
    if (bytes[index + 1] === 0x0a && bytes[index + 2] === 0x0d && bytes[index + 3] === 0x0a) return index;
  }
  return -1;
}

function parseHead(bytes: Uint8Array, leftover: Uint8Array): Request | null {
  const [first = "", ...lines] = new TextDecoder("latin1").decode(bytes).split("\r\n");
  const match = /^([A-Z]+) (\/[^ ]*) HTTP\/1\.1$/.exec(first);
  if (match === null) return null;
  const [path = "/", query = ""] = (match[2] ?? "/").split("?", 2);
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(":");
    if (colon > 0) headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  return { method: match[1] ?? "", path, query, headers, leftover };
}
