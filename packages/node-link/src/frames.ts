import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { keptBytes } from "./limits.ts";

/**
 * A frame is a byte for its kind, four for the length of what follows, and that. The end of a whole sequence is a frame too: what ends without it was cut off.
 */
export const FRAME = { json: 0, piece: 1, error: 2, end: 3 } as const;
export type FrameKind = (typeof FRAME)[keyof typeof FRAME];

export interface Frame {
  readonly kind: FrameKind;
  readonly body: Buffer;
}

const HEAD_BYTES = 5;
/** A piece has at most 1 MiB and its offset; more is no peer of ours. */
const MAX_BODY_BYTES = 4 * 2 ** 20;
/** What a frame that is not whole may take of memory: chunks are larger than they have to be, but a peer that cuts a frame into crumbs is none of ours. */
const MAX_KEPT_BYTES = 2 * MAX_BODY_BYTES;
const KINDS: ReadonlySet<number> = new Set(Object.values(FRAME));

/** Writes a frame and resolves when there is room for more. Rejects when the stream ends first. */
export async function writeFrame(stream: Writable, kind: FrameKind, body: Uint8Array): Promise<void> {
  if (stream.destroyed || !stream.writable) throw new Error("the stream is closed");
  const head = Buffer.allocUnsafe(HEAD_BYTES);
  head.writeUInt8(kind, 0);
  head.writeUInt32BE(body.length, 1);
  stream.cork();
  stream.write(head);
  const hasRoom = stream.write(body);
  stream.uncork();
  if (hasRoom) return;
  const closed = new AbortController();
  const onClose = () => closed.abort(new Error("the stream was closed"));
  stream.once("close", onClose);
  try {
    await once(stream, "drain", { signal: closed.signal });
  } finally {
    stream.off("close", onClose);
  }
}

export function jsonBody(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

/** The frames that come, at the pace of the reader. Throws for what is no frame, and where one is cut off. */
export async function* readFrames(stream: Readable): AsyncGenerator<Frame, void> {
  let parts: Buffer[] = [];
  let size = 0;
  let kept = 0;
  // A reader that stops early may still have to answer on the stream.
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    parts.push(chunk);
    size += chunk.length;
    kept += keptBytes(chunk);
    if (kept > MAX_KEPT_BYTES) throw new Error("the peer does not speak this protocol");
    while (size >= HEAD_BYTES) {
      if ((parts[0]?.length ?? 0) < HEAD_BYTES) parts = [Buffer.concat(parts)];
      const [first] = parts;
      if (first === undefined) break;
      const kind = first.readUInt8(0);
      const length = first.readUInt32BE(1);
      if (!isKind(kind) || length > MAX_BODY_BYTES) throw new Error("the peer does not speak this protocol");
      if (size < HEAD_BYTES + length) break;
      const all = parts.length === 1 ? first : Buffer.concat(parts);
      const rest = all.subarray(HEAD_BYTES + length);
      parts = rest.length === 0 ? [] : [rest];
      size = rest.length;
      kept = rest.length;
      yield { kind, body: all.subarray(HEAD_BYTES, HEAD_BYTES + length) };
    }
  }
  if (size > 0) throw new Error("the stream was cut off");
}

function isKind(kind: number): kind is FrameKind {
  return KINDS.has(kind);
}
