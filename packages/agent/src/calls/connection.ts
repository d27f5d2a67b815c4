import { CLOSE_CODES, NOTIFICATIONS, RPC_ERROR_CODES, type RpcResponse } from "@caisson/protocol/rpc";
import type { Sandbox } from "../host/sandbox.ts";
import { IncomingStreams } from "../wire/incoming-streams.ts";
import { type ClientMessage, MalformedMessageError, parseMessage, type StreamEvent } from "../wire/message.ts";
import { type OutgoingStream, OutgoingStreams } from "../wire/outgoing-streams.ts";
import type { WebSocketPeer } from "../wire/websocket.ts";
import { abortError, ProtocolError, toErrorObject } from "./errors.ts";
import { type Connection, type Method, method } from "./method.ts";
import { number } from "./params.ts";
import { PendingCall } from "./pending-call.ts";

/** Requests of one connection that may be unanswered at a time. */
const MAX_PENDING_CALLS = 16_384;
/** Characters that may wait for a client before reading from it pauses. */
const MAX_WAITING_CHARACTERS = 64 * 1024 * 1024;
/** Largest message that the official clients accept, in bytes (protocol.md 3.1). */
const MAX_ANSWER_BYTES = { python: 1024 * 1024, other: 100 * 1024 * 1024 } as const;

type Request = Extract<ClientMessage, { kind: "request" }>;
type Answer<T = RpcResponse> = T extends RpcResponse ? Omit<T, "jsonrpc" | "id"> : never;

export interface ClientConnectionOptions {
  readonly sandbox: Sandbox;
  readonly peer: WebSocketPeer;
  readonly methods: ReadonlyMap<string, Method>;
  /** Tells the Python client, which needs more care, from others. */
  readonly userAgent: string;
}

/** One client: reads its messages, runs the methods it calls, and ends what belongs to it when it goes. */
export class ClientConnection implements Connection {
  readonly sandbox: Sandbox;
  readonly #peer: WebSocketPeer;
  readonly #methods: ReadonlyMap<string, Method>;
  readonly #isPython: boolean;
  #controller: AbortController | null = null;
  #isClosed = false;
  readonly #disposers = new Set<() => void | Promise<void>>();
  readonly #incoming: IncomingStreams;
  readonly #outgoing: OutgoingStreams;
  readonly #unanswered = new Set<PendingCall>();
  /** Calls that are not answered or whose streams are not over. */
  readonly #live = new Set<PendingCall>();
  readonly #abortable = new Map<number, Set<PendingCall>>();

  constructor({ sandbox, peer, methods, userAgent }: ClientConnectionOptions) {
    this.sandbox = sandbox;
    this.#peer = peer;
    this.#methods = methods;
    this.#isPython = /^Python\/.* websockets\//.test(userAgent);
    this.#incoming = new IncomingStreams((streamId) =>
      this.notify(NOTIFICATIONS.streamCancel, { streamId, reason: null }),
    );
    this.#outgoing = new OutgoingStreams((text, isAscii) => peer.send(text, isAscii));
  }

  /** Made on first use: loading it takes Deno milliseconds that the first command would wait for. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#isClosed) this.#controller.abort();
    return this.#controller.signal;
  }

  onClose(dispose: () => void | Promise<void>): () => void {
    if (this.#isClosed) void runDisposer(dispose);
    else this.#disposers.add(dispose);
    return () => this.#disposers.delete(dispose);
  }

  notify(name: string, params: Readonly<Record<string, unknown>>): void {
    void this.#peer.send(JSON.stringify({ jsonrpc: "2.0", method: name, params }));
  }

  openStream(): OutgoingStream {
    return this.#outgoing.open();
  }

  /** Serves the client until the connection has ended, then ends everything that belongs to it. Never rejects. */
  async run(): Promise<void> {
    try {
      for (let bytes = await this.#peer.receive(); bytes !== null; bytes = await this.#peer.receive()) {
        this.#receive(bytes);
        await this.#incoming.writable();
        // A client that does not take its answers is not read from, so that they cannot pile up.
        await this.#peer.room(MAX_WAITING_CHARACTERS);
      }
    } catch (error) {
      await this.#fail(error);
    }
    this.#dispose();
  }

  /**
   * Ends the connection because the sandbox ends. Python waits for ever for answers that a closed socket cannot bring, so it gets an
   * error for each first (protocol.md 3.8). Resolves when the kernel has the close frame.
   */
  async stop(reason: string): Promise<void> {
    if (this.#isPython) {
      const error = { code: RPC_ERROR_CODES.connectionClosed, message: `WebSocket closed: ${reason}` };
      await Promise.all([...this.#unanswered].map((call) => this.#answer(call, { error })));
    }
    await this.#peer.close(CLOSE_CODES.goingAway, reason);
  }

  async #fail(error: unknown): Promise<void> {
    if (error instanceof MalformedMessageError) {
      await this.#peer.close(error.closeCode, error.message);
    } else {
      console.error("A connection failed:", error);
      await this.#peer.close(CLOSE_CODES.internalError, "internal error");
    }
    // The client still has to answer the close frame; what it sends until then is dropped.
    while ((await this.#peer.receive()) !== null);
  }

  #receive(bytes: Uint8Array<ArrayBuffer>): void {
    const message = parseMessage(bytes);
    if (message.kind === "ping") this.#peer.sendPong();
    else if (message.kind === "request") void this.#call(message);
    else if (message.kind === "stream") this.#streamEvent(message.event);
  }

  #streamEvent(event: StreamEvent): void {
    switch (event.kind) {
      case "start":
        this.#incoming.start(event.id);
        break;
      case "enqueue":
        this.#incoming.enqueue(event.id, event.data);
        break;
      case "end":
        this.#incoming.end(event.id);
        break;
      case "error":
        this.#incoming.error(event.id, event.error);
        break;
      case "cancel":
        this.#outgoing.cancel(event.id);
        break;
    }
  }

  /** Runs one request and answers it. Requests run at the same time; each answer goes out when it is ready. */
  async #call(request: Request): Promise<void> {
    const call = new PendingCall(request.id, this, this.#incoming, this.#outgoing);
    const forget = this.#remember(call, request.params);
    try {
      const ok = await this.#run(request, call);
      const isSent = await this.#answer(call, { result: { ok: ok ?? null } });
      if (isSent) await call.runStreams();
      else call.fail();
    } catch (error) {
      call.fail();
      await this.#answer(call, failure(error, call));
    } finally {
      forget();
    }
  }

  #run(request: Request, call: PendingCall): unknown {
    if (request.method === "abort") return this.#abort(request.params, call);
    const run = this.#methods.get(request.method);
    if (run === undefined) throw new ProtocolError(RPC_ERROR_CODES.methodNotFound, "Method not found");
    if (this.#unanswered.size > MAX_PENDING_CALLS) {
      throw new ProtocolError(
        RPC_ERROR_CODES.serverError,
        `More than ${MAX_PENDING_CALLS} requests wait for an answer`,
      );
    }
    return run(request.params, call);
  }

  /** Sends the answer unless one was sent already; what is too large for the client becomes an error that says so. */
  async #answer(call: PendingCall, answer: Answer): Promise<boolean> {
    const maxBytes = this.#isPython ? MAX_ANSWER_BYTES.python : MAX_ANSWER_BYTES.other;
    const text = serialise(call, answer);
    if (!this.#unanswered.delete(call)) return false;
    if (text !== null && fits(text, maxBytes)) return await this.#peer.send(text);
    const message = `The answer is larger than the ${maxBytes} bytes that this client accepts in one message: read it in parts, with open()`;
    const error = { constructorName: "Error", message, code: "EMSGSIZE" };
    await this.#peer.send(serialise(call, { result: { error } }) ?? "");
    return false;
  }

  /** Registers a call, under its `abortId` too. Returns what undoes it. */
  #remember(call: PendingCall, params: unknown): () => void {
    this.#unanswered.add(call);
    this.#live.add(call);
    const abortId = abortIdOf(params);
    if (abortId === null) return () => this.#live.delete(call);
    const calls = this.#abortable.get(abortId) ?? new Set();
    this.#abortable.set(abortId, calls.add(call));
    return () => {
      this.#live.delete(call);
      calls.delete(call);
      if (calls.size === 0 && this.#abortable.get(abortId) === calls) this.#abortable.delete(abortId);
    };
  }

  /** Always succeeds, also for an id that is not known or over (protocol.md 3.6). */
  readonly #abort: Method = method({ abortId: number }, ({ abortId }, call) => {
    for (const other of this.#abortable.get(abortId) ?? []) if (other !== call) other.abort();
  });

  #dispose(): void {
    this.#isClosed = true;
    this.#controller?.abort();
    for (const call of this.#live) call.abort();
    this.#incoming.close();
    this.#outgoing.close();
    for (const dispose of this.#disposers) void runDisposer(dispose);
    this.#disposers.clear();
  }
}

async function runDisposer(dispose: () => void | Promise<void>): Promise<void> {
  try {
    await dispose();
  } catch (error) {
    console.error("Ending what belonged to a connection failed:", error);
  }
}

function failure(error: unknown, call: PendingCall): Answer {
  if (error instanceof ProtocolError) {
    const { rpcCode: code, message, data } = error;
    return { error: data === undefined ? { code, message } : { code, message, data } };
  }
  return { result: { error: toErrorObject(call.isAborted ? abortError() : error) } };
}

function abortIdOf(params: unknown): number | null {
  const abortId = typeof params === "object" && params !== null && "abortId" in params ? params.abortId : null;
  return typeof abortId === "number" ? abortId : null;
}

/** Null when the text would be longer than a string can be. */
function serialise(call: PendingCall, answer: Answer): string | null {
  try {
    return JSON.stringify({ jsonrpc: "2.0", id: call.id, ...answer });
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function fits(text: string, maxBytes: number): boolean {
  if (text.length * 3 <= maxBytes) return true;
  return text.length <= maxBytes && new TextEncoder().encode(text).length <= maxBytes;
}
