import { decodedLength, findChunk } from "@caisson/protocol/chunk-message";
import { CLOSE_CODES, NOTIFICATIONS, type RpcId } from "@caisson/protocol/rpc";
import type { LargePayload } from "./large-payload.ts";
import { LargeString, parseLargeJson } from "./large-string.ts";

/** A message after which the connection must be closed (protocol.md 3.3). */
export class MalformedMessageError extends Error {
  readonly closeCode: number;

  constructor(closeCode: number, message: string) {
    super(message);
    this.name = "MalformedMessageError";
    this.closeCode = closeCode;
  }
}

export type StreamEvent =
  | { readonly kind: "start" | "end" | "cancel"; readonly id: number }
  | { readonly kind: "enqueue"; readonly id: number; readonly data: Uint8Array<ArrayBuffer> | LargeString }
  | { readonly kind: "error"; readonly id: number; readonly error: unknown };

/** What a client sends. `ignored` is a notification that means nothing here. */
export type ClientMessage =
  | { readonly kind: "ping" }
  | { readonly kind: "request"; readonly id: RpcId; readonly method: string; readonly params: unknown }
  | { readonly kind: "stream"; readonly event: StreamEvent }
  | { readonly kind: "ignored" };

const PING = "ping";

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Reads one message. Throws `MalformedMessageError`. */
export function parseMessage(bytes: Uint8Array<ArrayBuffer>): ClientMessage {
  if (bytes.length === PING.length && String.fromCharCode(...bytes) === PING) return { kind: "ping" };
  const event = chunkEvent(bytes);
  if (event !== null) return { kind: "stream", event };
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(bytes));
  } catch {
    throw notJson();
  }
  return toMessage(value);
}

/** A chunk that can be read without parsing the message; null: the parser has to say what the message is. */
function chunkEvent(bytes: Uint8Array<ArrayBuffer>): StreamEvent | null {
  const found = findChunk(bytes);
  if (found === null) return null;
  try {
    const data = Uint8Array.fromBase64(utf8.decode(bytes.subarray(found.start, found.end)));
    return data.length === decodedLength(bytes, found) ? { kind: "enqueue", id: found.streamId, data } : null;
  } catch {
    return null;
  }
}

/** Reads one large message, of which a `LargeString` may be left that reads the payload later. Throws `MalformedMessageError`. */
export async function parseLargeMessage(payload: LargePayload): Promise<ClientMessage> {
  const parsed = await parseLargeJson(payload).catch((error: unknown) => {
    throw error instanceof SyntaxError || error instanceof TypeError ? notJson() : error;
  });
  if (parsed !== null) return toMessage(parsed.value);
  const reason = "only one string of a message may be this large";
  throw new MalformedMessageError(CLOSE_CODES.messageTooBig, reason);
}

function toMessage(value: unknown): ClientMessage {
  if (typeof value !== "object" || value === null) throw notJsonRpc();
  const { jsonrpc, id, method, params } = value as {
    jsonrpc?: unknown;
    id?: unknown;
    method?: unknown;
    params?: unknown;
  };
  if (jsonrpc !== "2.0" || typeof method !== "string") throw notJsonRpc();
  if (typeof id === "number" || typeof id === "string") return { kind: "request", id, method, params };
  if (id !== undefined) throw notJsonRpc();
  const event = streamEvent(method, params);
  return event === null ? { kind: "ignored" } : { kind: "stream", event };
}

function notJson(): MalformedMessageError {
  return new MalformedMessageError(CLOSE_CODES.malformedJson, "the message is not JSON");
}

function notJsonRpc(): MalformedMessageError {
  return new MalformedMessageError(CLOSE_CODES.notJsonRpc, "the message is not JSON-RPC 2.0");
}

function streamEvent(method: string, params: unknown): StreamEvent | null {
  const kind = STREAM_KINDS[method];
  if (kind === undefined) return null;
  const { streamId: id, data, error } = (params ?? {}) as { streamId?: unknown; data?: unknown; error?: unknown };
  if (typeof id !== "number") throw notJsonRpc();
  if (kind === "error") return { kind, id, error };
  if (kind !== "enqueue") return { kind, id };
  if (data instanceof LargeString) return { kind, id, data };
  try {
    return { kind, id, data: decodeBase64(data) };
  } catch {
    return { kind: "error", id, error: "the stream's data is not base64" };
  }
}

const STREAM_KINDS: Readonly<Record<string, StreamEvent["kind"]>> = {
  [NOTIFICATIONS.streamStart]: "start",
  [NOTIFICATIONS.streamEnqueue]: "enqueue",
  [NOTIFICATIONS.streamEnd]: "end",
  [NOTIFICATIONS.streamError]: "error",
  [NOTIFICATIONS.streamCancel]: "cancel",
};

/** Decodes standard base64. Throws when it is none. */
export function decodeBase64(value: unknown): Uint8Array<ArrayBuffer> {
  if (typeof value === "string") return Uint8Array.fromBase64(value);
  throw new TypeError("The value is not text");
}
