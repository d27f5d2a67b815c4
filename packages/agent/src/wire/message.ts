import { CLOSE_CODES, NOTIFICATIONS, type RpcId } from "@caisson/protocol/rpc";
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
  | { readonly kind: "enqueue"; readonly id: number; readonly data: Uint8Array<ArrayBuffer> }
  | { readonly kind: "error"; readonly id: number; readonly error: unknown };

/** What a client sends. `ignored` is a notification that means nothing here. */
export type ClientMessage =
  | { readonly kind: "ping" }
  | { readonly kind: "request"; readonly id: RpcId; readonly method: string; readonly params: unknown }
  | { readonly kind: "stream"; readonly event: StreamEvent }
  | { readonly kind: "ignored" };

const PING = "ping";

/** Reads one message. Throws `MalformedMessageError`. */
export function parseMessage(bytes: Uint8Array<ArrayBuffer>): ClientMessage {
  if (bytes.length === PING.length && String.fromCharCode(...bytes) === PING) return { kind: "ping" };
  const value = parseJson(bytes);
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

function parseJson(bytes: Uint8Array<ArrayBuffer>): unknown {
  try {
    return parseLargeJson(bytes);
  } catch {
    throw new MalformedMessageError(CLOSE_CODES.malformedJson, "the message is not JSON");
  }
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

/** Decodes standard base64 of any length. Throws when it is none. */
export function decodeBase64(value: unknown): Uint8Array<ArrayBuffer> {
  if (value instanceof LargeString) return value.decodeBase64();
  if (typeof value === "string") return Uint8Array.fromBase64(value);
  throw new TypeError("The value is not text");
}
