import { CLOSE_CODES, NOTIFICATIONS, RPC_ERROR_CODES, type RpcResponse } from "@caisson/protocol/rpc";
import { Budget } from "../host/budget.ts";
import type { Sandbox } from "../host/sandbox.ts";
import { IncomingStreams } from "../wire/incoming-streams.ts";
import type { LargePayload } from "../wire/large-payload.ts";
import { LargeString } from "../wire/large-string.ts";
import {
  type ClientMessage,
  MalformedMessageError,
  parseLargeMessage,
  parseMessage,
  type StreamEvent,
} from "../wire/message.ts";
import { type OutgoingStream, OutgoingStreams } from "../wire/outgoing-streams.ts";
import type { WebSocketPeer } from "../wire/websocket.ts";
import { abortError, ProtocolError, RemoteError, toErrorObject } from "./errors.ts";
import { type Connection, type Method, type MethodTable, method } from "./method.ts";
import { number } from "./params.ts";
import { PendingCall } from "./pending-call.ts";
import { isStreamedText, type StreamedText } from "./streamed-text.ts";

/** Requests of one connection that may be unanswered at a time. */
const MAX_PENDING_CALLS = 16_384;
/** Characters that may wait for a client before reading from it pauses. */
const MAX_WAITING_CHARACTERS = 16 * 1024 * 1024;
/** Answers of one connection that may be in the making at a time, of those that take much memory (`Call.inTurn`). */
const MAX_TURNS = 8;
/** Requests up to this size count as nothing, so that neither `abort` nor a signal to a process ever waits for memory. */
const SMALL_REQUEST_BYTES = 4 * 1024;
/** Kept free of a streamed answer, for the error that may have to end it. */
const ERROR_RESERVE_BYTES = 16 * 1024;
/** The methods that read a large string themselves. */
const READS_LARGE_STRINGS: ReadonlySet<string> = new Set(["writeFile", "writeTextFile", "fileWrite"]);
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
  readonly #turns = new Budget(MAX_TURNS);

  constructor({ sandbox, peer, methods, userAgent }: ClientConnectionOptions) {
    this.sandbox = sandbox;
    this.#peer = peer;
    this.#methods = methods;
    this.#isPython = /^Python\/.* websockets\//.test(userAgent);
    this.#incoming = new IncomingStreams(sandbox.memory.messages, (streamId) =>
      this.notify(NOTIFICATIONS.streamCancel, { streamId, reason: null }),
    );
    this.#outgoing = new OutgoingStreams(peer);
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
      for (let payload = await this.#peer.receive(); payload !== null; payload = await this.#peer.receive()) {
        if (payload instanceof Uint8Array) await this.#receive(payload);
        else await this.#receiveLarge(payload);
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
    for (let rest = await this.#peer.receive(); rest !== null; rest = await this.#peer.receive()) {
      if (!(rest instanceof Uint8Array)) rest.release();
    }
  }

  async #receive(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const message = parseMessage(bytes);
    if (message.kind === "ping") this.#peer.sendPong();
    else if (message.kind === "stream") await this.#streamEvent(message.event);
    else if (message.kind === "request") await this.#admit(message, bytes.length);
  }

  async #receiveLarge(payload: LargePayload): Promise<void> {
    let isKept = false;
    try {
      const message = await parseLargeMessage(payload);
      if (message.kind === "stream") {
        isKept = message.event.kind === "enqueue" && message.event.data instanceof LargeString;
        await this.#streamEvent(message.event);
      } else if (message.kind === "request") {
        const large = largeParam(message.params);
        isKept = large !== null;
        await this.#admit(message, large === null ? payload.length : payload.length - large[1].length, large);
      }
    } finally {
      if (!isKept) payload.release();
    }
  }

  async #streamEvent(event: StreamEvent): Promise<void> {
    switch (event.kind) {
      case "start":
        this.#incoming.start(event.id);
        break;
      case "enqueue":
        await this.#incoming.enqueue(event.id, event.data);
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

  /** Lets a request run as soon as there is memory for what it holds. */
  async #admit(request: Request, bytes: number, large: LargeParam | null = null): Promise<void> {
    const { calls } = this.sandbox.memory;
    const cost = bytes > SMALL_REQUEST_BYTES ? bytes : 0;
    if (cost > 0) await calls.take(cost);
    const end = () => {
      if (cost > 0) calls.give(cost);
      large?.[1].release();
    };
    void this.#call(request, large, end);
  }

  /** Runs one request and answers it. Requests run at the same time; each answer goes out when it is ready. */
  async #call(request: Request, large: LargeParam | null, endRequest: () => void): Promise<void> {
    const turns = [this.#turns, this.sandbox.memory.turns];
    const call = new PendingCall(request.id, this, this.#incoming, this.#outgoing, turns);
    const forget = this.#remember(call, request.params);
    try {
      let isSent = false;
      try {
        if (large !== null && !READS_LARGE_STRINGS.has(request.method)) await readIntoMemory(request, large);
        const ok = await this.#run(request, call);
        isSent = isStreamedText(ok)
          ? await this.#answerStreamed(call, ok)
          : await this.#answer(call, { result: { ok: ok ?? null } });
      } finally {
        endRequest();
      }
      call.endTurn();
      if (isSent) await call.runStreams();
      else call.fail();
    } catch (error) {
      call.fail();
      await this.#answer(call, failure(error, call));
    } finally {
      call.endTurn();
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

  get #maxAnswerBytes(): number {
    return this.#isPython ? MAX_ANSWER_BYTES.python : MAX_ANSWER_BYTES.other;
  }

  /** Sends the answer unless one was sent already; what is too large for the client becomes an error that says so. */
  async #answer(call: PendingCall, answer: Answer): Promise<boolean> {
    const text = serialise(call, answer);
    if (!this.#unanswered.delete(call)) return false;
    if (text !== null && fits(text, this.#maxAnswerBytes)) return await this.#peer.send(text);
    await this.#peer.send(serialise(call, { result: { error: this.#tooLarge().errorObject } }) ?? "");
    return false;
  }

  /** The same for an answer that is made while it is sent. */
  async #answerStreamed(call: PendingCall, text: StreamedText): Promise<boolean> {
    try {
      if (text.expectedBytes > this.#maxAnswerBytes - ERROR_RESERVE_BYTES) throw this.#tooLarge();
      return this.#unanswered.delete(call) && (await this.#peer.sendPieces(this.#streamedAnswer(call, text)));
    } finally {
      text.close();
    }
  }

  /**
   * The message of a streamed answer. When the rest of the text cannot be had, the beginning is with the client already; then the message goes on
   * with a second `result`, which is the error: of two members with one name, the parsers of both official clients take the last (ECMA-262
   * `JSON.parse`, Python's `json`).
   */
  async *#streamedAnswer(call: PendingCall, text: StreamedText): AsyncGenerator<Uint8Array> {
    const encoder = new TextEncoder();
    yield encoder.encode(`{"jsonrpc":"2.0","id":${JSON.stringify(call.id)},"result":{"ok":"`);
    let room = this.#maxAnswerBytes - ERROR_RESERVE_BYTES;
    try {
      for await (const piece of text.pieces()) {
        room -= piece.length;
        if (room < 0) throw this.#tooLarge();
        yield piece;
      }
    } catch (error) {
      const answer = failure(error, call);
      yield encoder.encode(`"},${JSON.stringify(answer).slice(1)}`);
      return;
    }
    yield encoder.encode('"}}');
  }

  #tooLarge(): RemoteError {
    const message = `The answer is larger than the ${this.#maxAnswerBytes} bytes that this client accepts in one message: read it in parts, with open()`;
    return new RemoteError({ constructorName: "Error", message, code: "EMSGSIZE" });
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
  readonly #abort: Required<MethodTable>["abort"] = method({ abortId: number }, ({ abortId }, call) => {
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

/** A parameter that is a large string, by its name. */
type LargeParam = readonly [name: string, value: LargeString];

function largeParam(params: unknown): LargeParam | null {
  for (const [name, value] of Object.entries(params ?? {})) if (value instanceof LargeString) return [name, value];
  return null;
}

/** For methods that take no large strings. */
async function readIntoMemory({ params }: Request, [name, value]: LargeParam): Promise<void> {
  (params as Record<string, unknown>)[name] = await value.text();
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
