/**
 * Messages of the WebSocket between clients and the agent (protocol.md section 3).
 */

/** An error as a client rebuilds it (protocol.md 3.4). */
export interface ErrorObject {
  readonly constructorName: string;
  readonly message: string;
  /** An errno name, for example `ENOENT`; never a number. */
  readonly code?: string | null;
  /** Only meaningful when `constructorName` is `DOMException`. */
  readonly name?: string | null;
  readonly stack?: string | null;
  readonly cause?: ErrorObject | null;
  readonly error?: ErrorObject | null;
  readonly suppressed?: ErrorObject | null;
  readonly errors?: readonly ErrorObject[] | null;
}

export type RpcId = number | string;

export interface RpcRequest {
  readonly jsonrpc: "2.0";
  readonly id: RpcId;
  readonly method: string;
  readonly params?: unknown;
}

/** `error` inside `result` is the method's failure; `error` beside it would be the call's own (protocol.md 3.3). */
export type RpcResponse =
  | {
      readonly jsonrpc: "2.0";
      readonly id: RpcId;
      readonly result: { readonly ok: unknown } | { readonly error: ErrorObject };
    }
  | { readonly jsonrpc: "2.0"; readonly id: RpcId | null; readonly error: RpcError };

export interface RpcError {
  readonly code: number;
  readonly message: string;
  readonly data?: unknown;
}

export interface RpcNotification {
  readonly jsonrpc: "2.0";
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
}

/** Codes of JSON-RPC errors that clients know (protocol.md 3.3). */
export const RPC_ERROR_CODES = {
  connectionClosed: 1,
  aborted: 2,
  isolateInternalError: 3,
  parseError: -32700,
  invalidRequest: -32600,
  methodNotFound: -32601,
  invalidParams: -32602,
  internalError: -32603,
  serverError: -32000,
} as const;

/** Names of the notifications; the five of streams exist in both directions (protocol.md 3.5, 3.7). */
export const NOTIFICATIONS = {
  streamStart: "$sandbox.stream.start",
  streamEnqueue: "$sandbox.stream.enqueue",
  streamEnd: "$sandbox.stream.end",
  streamError: "$sandbox.stream.error",
  streamCancel: "$sandbox.stream.cancel",
  watcherRestart: "$sandbox.deno.watcher.restart",
} as const;

/** Most bytes of one stream chunk before base64 (protocol.md 3.1: Python accepts messages of 1 MiB). */
export const STREAM_CHUNK_BYTES = 64 * 1024;

/** Codes of the closing handshake (protocol.md 3.8). */
export const CLOSE_CODES = {
  normal: 1000,
  goingAway: 1001,
  protocolError: 1002,
  unsupportedData: 1003,
  invalidText: 1007,
  messageTooBig: 1009,
  internalError: 1011,
  malformedJson: 4000,
  notJsonRpc: 4001,
} as const;
