import type { Buffer } from "node:buffer";
import type { RpcMethodName, RpcParams, RpcResult } from "@caisson/protocol";
import { CLOSE_CODES, type ErrorObject, NOTIFICATIONS } from "@caisson/protocol/rpc";
import type WebSocket from "ws";
import { ConnectionClosedError, RpcError } from "../core/errors.ts";
import { isRecord } from "../core/http.ts";
import { type Bytes, decodeBase64 } from "./bytes.ts";
import { ChunkMessages, readChunkMessage } from "./chunk-messages.ts";
import { toError, toErrorObject, withOrigin } from "./error-object.ts";
import { IncomingStream } from "./incoming-stream.ts";
import { OutgoingStream } from "./outgoing-stream.ts";

/** How often the other side is asked for a sign of life; after two questions without an answer the connection counts as dead. */
const PING_INTERVAL_MS = 10_000;
/** How long the closing handshake may take. */
const CLOSE_TIMEOUT_MS = 5_000;
/** Above this much data waiting for its reader, the socket is not read. */
const INCOMING_LIMIT_BYTES = 8 * 1024 * 1024;
/** Above this much data waiting to be sent, writers wait. */
const OUTGOING_LIMIT_BYTES = 1024 * 1024;

/** Calls that are answered when something happens in the sandbox, which may be hours later. */
const LONG_CALLS: ReadonlySet<RpcMethodName> = new Set(["processWait", "denoHttpWait", "fileLock"]);

interface PendingCall {
  readonly isLong: boolean;
  readonly resolve: (ok: unknown) => void;
  readonly reject: (error: Error) => void;
  /** Its stack shows where the call was made. */
  readonly origin: Error;
}

/** Finds out why a connection ended that nobody here closed. Resolves in bounded time and never rejects. */
export type Explain = (error: ConnectionClosedError) => Promise<ConnectionClosedError>;

/** What a call accepts beside its parameters. */
export interface CallOptions {
  /** Ends the wait for the answer; the call then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/**
 * One WebSocket to a sandbox: calls with answers, and streams in both directions (protocol.md section 3).
 *
 * Back-pressure. The protocol has none of its own, so a reader that is slower than the sandbox would fill this process's memory. The
 * socket is therefore not read while more than 8 MiB wait for readers that have begun to read, unless a short call waits for its
 * answer (which is behind that data). Streams that nobody has begun to read do not count: waiting for a process first and reading its
 * output afterwards must work.
 */
export class Connection {
  /** Resolves when the connection is closed, whoever closed it and why. */
  readonly closed: Promise<void>;
  readonly #socket: WebSocket;
  readonly #pending = new Map<number, PendingCall>();
  readonly #incoming = new Map<number, IncomingStream>();
  readonly #outgoing = new Map<number, OutgoingStream>();
  readonly #restartListeners = new Map<string, () => void>();
  readonly #pingTimer: NodeJS.Timeout;
  readonly #chunks = new ChunkMessages();
  #nextCallId = 0;
  #nextStreamId = 0;
  #nextAbortId = 0;
  #shortCalls = 0;
  #isPaused = false;
  #unansweredPings = 0;
  /** As the last look at the other side found it. */
  #unsentBytes = 0;
  #closedError: ConnectionClosedError | null = null;
  /** Resolves when the reason of the end is known; until then the calls that it broke off wait. */
  #explained: Promise<void> = Promise.resolve();
  #explain: Explain | null = null;

  constructor(socket: WebSocket, pingIntervalMs = PING_INTERVAL_MS) {
    this.#socket = socket;
    socket.on("message", (data: Buffer) => this.#onMessage(data));
    socket.on("pong", () => {
      this.#unansweredPings = 0;
    });
    // It asks itself, also while much that is being written keeps its answers away.
    socket.on("ping", () => {
      this.#unansweredPings = 0;
    });
    // The event that follows, "close", says everything that matters here.
    socket.on("error", () => undefined);
    this.closed = new Promise((resolve) => {
      socket.once("close", (code, reason) => {
        this.#onClose(new ConnectionClosedError(code, reason.toString()));
        resolve();
      });
    });
    this.#pingTimer = setInterval(() => this.#checkLife(), pingIntervalMs);
  }

  get isClosed(): boolean {
    return this.#closedError !== null || this.#socket.readyState !== this.#socket.OPEN;
  }

  /** Calls a method. Rejects with the method's own error, {@linkcode RpcError}, {@linkcode ConnectionClosedError} or the signal's reason. */
  call<M extends RpcMethodName>(method: M, params: RpcParams<M>, options: CallOptions = {}): Promise<RpcResult<M>> {
    const origin = new Error();
    const { signal } = options;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      if (this.isClosed) {
        // That the sandbox has ended, if it is known, says more than that there is no connection.
        void this.#explained.then(() =>
          reject(
            this.#closedError?.stoppedAt || this.#closedError?.stopReason
              ? this.#closedError
              : new ConnectionClosedError(),
          ),
        );
        return;
      }
      const id = this.#nextCallId++;
      const isLong = LONG_CALLS.has(method);
      const abort = (): void => {
        this.#forget(id);
        reject(signal?.reason);
      };
      const settle = (): void => signal?.removeEventListener("abort", abort);
      this.#pending.set(id, {
        isLong,
        origin,
        resolve: (ok) => {
          settle();
          resolve(ok as RpcResult<M>);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      });
      signal?.addEventListener("abort", abort, { once: true });
      if (!isLong) this.#shortCalls += 1;
      this.#updateFlow();
      this.#send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    });
  }

  /** Like {@linkcode call}, for the methods that the sandbox itself can break off (protocol.md 3.6). */
  async callAbortable<M extends "readFile" | "readTextFile" | "writeFile" | "writeTextFile">(
    method: M,
    params: RpcParams<M>,
    signal: AbortSignal | undefined,
  ): Promise<RpcResult<M>> {
    const registration = this.registerAbort(signal);
    try {
      return await this.call(method, { ...params, ...registration.params }, { signal });
    } finally {
      registration.end();
    }
  }

  /** Tells the sandbox when the signal is aborted: `params` belong into the call, and `end` ends the attention to the signal. */
  registerAbort(signal: AbortSignal | undefined): { readonly params: { abortId?: number }; readonly end: () => void } {
    if (signal === undefined) return { params: {}, end: () => undefined };
    const abortId = this.#nextAbortId++;
    const abort = (): void => {
      this.call("abort", { abortId }).catch(() => undefined);
    };
    signal.addEventListener("abort", abort, { once: true });
    return { params: { abortId }, end: () => signal.removeEventListener("abort", abort) };
  }

  /** The stream that the sandbox sends under this id. Each id may be asked for once. */
  receive(streamId: number): IncomingStream {
    const stream = this.#incomingStream(streamId);
    stream.isClaimed = true;
    if (stream.hasEnded) this.#incoming.delete(streamId);
    return stream;
  }

  /** Ends a stream behind what has arrived, with an error if one is given, and asks the sandbox to send no more of it. */
  release(stream: IncomingStream, outcome: { readonly error?: unknown } = {}): void {
    if (stream.hasEnded) return;
    this.#incoming.delete(stream.id);
    stream.end(outcome);
    this.#notify(NOTIFICATIONS.streamCancel, { streamId: stream.id, reason: null });
    this.#updateFlow();
  }

  /** From now on, calls that an unexpected end of the connection breaks off are told what `explain` finds out about it. */
  explainEnd(explain: Explain): void {
    this.#explain = explain;
  }

  /** Says that the end of the connection is what this side wants, so that nobody has to find out why. */
  expectEnd(): void {
    this.#explain = null;
  }

  /** Opens a stream into the sandbox. */
  openOutgoing(): OutgoingStream {
    const stream = new OutgoingStream(this.#nextStreamId++, {
      notify: (method, params) => this.#notify(method, params),
      sendChunk: (streamId, chunk) => this.#sendChunk(streamId, chunk),
      onFinish: ({ id }) => this.#outgoing.delete(id),
    });
    this.#outgoing.set(stream.id, stream);
    return stream;
  }

  /** Runs a call that consumes a stream. The source is cancelled when the call fails, and the call fails when the source does. */
  async callWithSource<T>(source: ReadableStream<Uint8Array>, call: (streamId: number) => Promise<T>): Promise<T> {
    const stream = this.openOutgoing();
    const stop = new AbortController();
    const transfer = source.pipeTo(stream.writable, { signal: stop.signal });
    // The call's answer tells of a failed transfer too, since the sandbox is told that the stream failed.
    transfer.catch(() => undefined);
    try {
      return await call(stream.id);
    } catch (error) {
      stop.abort(error);
      throw error;
    }
  }

  /** Calls the listener each time the watching Deno process restarts. */
  onRestart(watcherId: string, listener: () => void): void {
    this.#restartListeners.set(watcherId, listener);
  }

  offRestart(watcherId: string): void {
    this.#restartListeners.delete(watcherId);
  }

  /** Closes the connection and waits until it is closed, at most five seconds. */
  async close(): Promise<void> {
    if (this.#closedError !== null) return;
    this.expectEnd();
    const timer = setTimeout(() => this.#socket.terminate(), CLOSE_TIMEOUT_MS);
    this.#socket.resume();
    this.#socket.close();
    await this.closed;
    clearTimeout(timer);
  }

  #send(text: string): void {
    // A failed write is followed by the closing of the socket, which reports it.
    this.#socket.send(text, () => undefined);
  }

  #notify(method: string, params: Readonly<Record<string, unknown>>): void {
    if (!this.isClosed) this.#send(JSON.stringify({ jsonrpc: "2.0", method, params }));
  }

  /** The text of the message is sent as it lies in the buffer, which is free again when the system has it. */
  #sendChunk(streamId: number, chunk: Uint8Array): Promise<void> {
    if (this.isClosed) return Promise.reject(this.#closedError ?? new ConnectionClosedError());
    const isRoomLeft = this.#socket.bufferedAmount < OUTGOING_LIMIT_BYTES;
    const message = this.#chunks.make(streamId, chunk);
    const sent = new Promise<void>((resolve, reject) => {
      this.#socket.send(message, { binary: false }, (error) => {
        if (error) return reject(this.#closedError ?? error);
        this.#chunks.giveBack(message);
        resolve();
      });
    });
    if (!isRoomLeft) return sent;
    // A failed write is followed by the closing of the socket, which reports it.
    sent.catch(() => undefined);
    return Promise.resolve();
  }

  #onMessage(data: Buffer): void {
    this.#unansweredPings = 0;
    const chunk = readChunkMessage(data);
    if (chunk === null) this.#onText(data.toString());
    else this.#onChunk(chunk.streamId, chunk.bytes);
  }

  #onText(text: string): void {
    if (text === "pong") return;
    let message: unknown;
    try {
      message = JSON.parse(text);
    } catch {
      this.#socket.close(CLOSE_CODES.malformedJson, "Invalid JSON");
      return;
    }
    if (!isRecord(message) || message.jsonrpc !== "2.0") {
      this.#socket.close(CLOSE_CODES.notJsonRpc, "Invalid message");
      return;
    }
    if ("id" in message) this.#onAnswer(message);
    else if (isRecord(message.params)) this.#onNotification(message.method, message.params);
  }

  /** Chunks of a stream that was cancelled here a moment ago may still be under way; they have no stream any more. */
  #onChunk(streamId: number, bytes: Bytes): void {
    this.#incoming.get(streamId)?.push(bytes);
    this.#updateFlow();
  }

  #onAnswer(message: Readonly<Record<string, unknown>>): void {
    const call = typeof message.id === "number" ? this.#forget(message.id) : undefined;
    // No call is waiting when its signal was aborted meanwhile.
    if (call === undefined) return;
    const { error, result } = message;
    if (isRecord(error)) {
      const { code, message: text, data } = error;
      call.reject(withOrigin(new RpcError(Number(code), String(text), data), call.origin));
    } else if (isRecord(result) && isRecord(result.error)) {
      call.reject(toError(result.error as unknown as ErrorObject, call.origin));
    } else if (isRecord(result) && "ok" in result) {
      call.resolve(result.ok);
    } else {
      call.reject(new TypeError("The sandbox sent an answer with neither a value nor an error"));
    }
  }

  #onNotification(method: unknown, params: Readonly<Record<string, unknown>>): void {
    if (method === NOTIFICATIONS.watcherRestart) {
      this.#restartListeners.get(String(params.watcherId))?.();
      return;
    }
    const streamId = params.streamId;
    if (typeof streamId !== "number") return;
    const error = params.error as ErrorObject | null | undefined;
    switch (method) {
      case NOTIFICATIONS.streamStart:
        this.#incomingStream(streamId);
        break;
      case NOTIFICATIONS.streamEnqueue:
        this.#onChunk(streamId, decodeBase64(String(params.data)));
        break;
      case NOTIFICATIONS.streamEnd:
        this.#endIncoming(streamId, {});
        break;
      case NOTIFICATIONS.streamError:
        this.#endIncoming(streamId, { error: toError(error) });
        break;
      case NOTIFICATIONS.streamCancel: {
        const stream = this.#outgoing.get(streamId);
        this.#outgoing.delete(streamId);
        const reason = params.reason as ErrorObject | null | undefined;
        stream?.stop(reason ? toError(reason) : undefined);
        break;
      }
    }
  }

  #incomingStream(streamId: number): IncomingStream {
    const existing = this.#incoming.get(streamId);
    if (existing !== undefined) return existing;
    const stream = new IncomingStream(streamId, {
      onFlowChange: () => this.#updateFlow(),
      onCancel: ({ id }, reason) => {
        this.#incoming.delete(id);
        this.#notify(NOTIFICATIONS.streamCancel, { streamId: id, reason: toErrorObject(reason) });
        this.#updateFlow();
      },
    });
    if (this.#closedError === null) this.#incoming.set(streamId, stream);
    else stream.end({ error: this.#closedError });
    return stream;
  }

  /** A stream that nobody has asked for yet is kept: its end can overtake the program that is about to ask for it. */
  #endIncoming(streamId: number, outcome: { readonly error?: unknown }): void {
    const stream = this.#incoming.get(streamId);
    stream?.end(outcome);
    if (stream?.isClaimed === true) this.#incoming.delete(streamId);
  }

  #forget(callId: number): PendingCall | undefined {
    const call = this.#pending.get(callId);
    this.#pending.delete(callId);
    if (call?.isLong === false) {
      this.#shortCalls -= 1;
      this.#updateFlow();
    }
    return call;
  }

  #updateFlow(): void {
    if (this.isClosed) return;
    let waitingBytes = 0;
    for (const stream of this.#incoming.values()) waitingBytes += stream.pressureBytes;
    const shouldPause = waitingBytes > INCOMING_LIMIT_BYTES && this.#shortCalls === 0;
    if (shouldPause === this.#isPaused) return;
    this.#isPaused = shouldPause;
    if (shouldPause) this.#socket.pause();
    else this.#socket.resume();
  }

  #checkLife(): void {
    if (this.#isPaused) {
      // The other side's question is behind data that is not read now; an answer without a question shows that this side lives.
      this.#unansweredPings = 0;
      this.#socket.pong();
      return;
    }
    // The answer can only come when the other side has read what lies before the question, and it does.
    const unsentBytes = this.#socket.bufferedAmount;
    if (unsentBytes < this.#unsentBytes) this.#unansweredPings = 0;
    this.#unsentBytes = unsentBytes;
    if (this.#unansweredPings >= 2) {
      this.#socket.terminate();
      return;
    }
    this.#unansweredPings += 1;
    this.#socket.ping();
  }

  #onClose(error: ConnectionClosedError): void {
    clearInterval(this.#pingTimer);
    this.#closedError = error;
    if (this.#explain === null) {
      this.#breakOff(error);
      return;
    }
    this.#explained = this.#explain(error).then((explained) => {
      this.#closedError = explained;
      this.#breakOff(explained);
    });
  }

  #breakOff(error: ConnectionClosedError): void {
    for (const id of [...this.#pending.keys()]) this.#forget(id)?.reject(error);
    for (const stream of this.#incoming.values()) stream.end({ error });
    for (const stream of this.#outgoing.values()) stream.stop(error);
    this.#incoming.clear();
    this.#outgoing.clear();
    this.#restartListeners.clear();
  }
}
