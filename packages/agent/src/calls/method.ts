import type { RpcMethodName, RpcResult } from "@caisson/protocol/rpc-methods";
import type { Sandbox } from "../host/sandbox.ts";
import type { OutgoingStream } from "../wire/outgoing-streams.ts";
import { object, type ShapeOf, type Validator, validate } from "./params.ts";
import type { StreamedText } from "./streamed-text.ts";

/** One client's WebSocket, as methods see it. */
export interface Connection {
  readonly sandbox: Sandbox;
  /** Aborts when the connection has ended. */
  readonly signal: AbortSignal;
  /** Runs `dispose` when the connection ends, at once when it has ended already. Returns a function that withdraws it. */
  onClose(dispose: () => void | Promise<void>): () => void;
  /** Opens a stream to the client that the caller runs itself; it is cancelled when the connection ends. */
  openStream(): OutgoingStream;
  /** Sends a notification; dropped when the connection has ended. */
  notify(method: string, params: Readonly<Record<string, unknown>>): void;
}

/** Makes the chunks of a stream. `signal` aborts when the client cancels it or the connection ends; nothing is read after that. */
export type StreamSource = (signal: AbortSignal) => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** One request being answered. */
export interface Call {
  readonly connection: Connection;
  readonly sandbox: Sandbox;
  /**
   * Aborts when the client aborts the request by its `abortId` (protocol.md 3.6) or when the connection ends. It stays live until the
   * answer was sent and every stream opened by the call has ended.
   */
  readonly signal: AbortSignal;
  /**
   * Runs what needs much memory for its answer when it is its turn, which lasts until the answer was sent: only a few do so at a time, however many
   * are asked for and however slowly the client takes them. Nothing in it may wait for the client.
   */
  inTurn<T>(run: () => Promise<T>): Promise<T>;
  /**
   * Opens a stream to the client and returns its id for the answer. Reading starts when the client has the answer, one message
   * per chunk, and waits while the client is slow. Empty chunks are skipped; chunks above 64 KiB are split, so an entry of `walk` must
   * be smaller. A source that throws ends the stream with `stream.error`; when the call fails after this, the source is never run.
   */
  openStream(source: StreamSource): number;
  /**
   * Takes over the stream that the client announced under this id. Reading waits for data; it ends at the client's `end` and throws
   * on its `error` or when the connection ends. Cancelling tells the client to stop. Throws `BadResource` for an id that was not
   * announced or is taken already. A stream that the call took but did not finish reading is cancelled when the call fails.
   */
  takeStream(streamId: number): ReadableStream<Uint8Array<ArrayBuffer>>;
}

/** Reads its parameters and answers with `R`. */
export type Method<R = unknown> = (params: unknown, call: Call) => R;

/** What a method returns whose `ok` is `R`: where that is null it may return nothing, and a text may be made while it is sent. */
// biome-ignore lint/suspicious/noConfusingVoidType: it is the type of a return, which the rule cannot see here; `undefined` would refuse functions that return nothing
type Returned<R> = R | (null extends R ? void : never) | (R extends string ? StreamedText : never);

/** A group of methods. Each name and the `ok` of each method is the protocol's. */
export type MethodTable = {
  readonly [M in RpcMethodName]?: Method<Returned<RpcResult<M>> | Promise<Returned<RpcResult<M>>>>;
};

/** Makes a method from the shape of its parameters and its implementation. */
export function method<const S extends Readonly<Record<string, Validator<unknown>>>, R>(
  shape: S,
  run: (params: ShapeOf<S>, call: Call) => R,
): Method<R> {
  const validator = object(shape);
  return (params, call) => run(validate(validator, params), call);
}
