import { once } from "node:events";
import type { ErrorObject } from "@caisson/protocol/rpc";
import WebSocket from "ws";

export interface RpcResult {
  readonly ok?: unknown;
  readonly error?: ErrorObject;
}

/** A message of the agent with the time at which it came. */
export interface Frame {
  readonly atMs: number;
  readonly id?: number;
  readonly result?: RpcResult;
  readonly error?: { readonly code: number; readonly message: string; readonly data?: unknown };
  readonly method?: string;
  readonly params?: Readonly<Record<string, unknown>>;
}

const DEADLINE_MS = 60_000;
const MAX_MESSAGE_BYTES = 512 * 1024 * 1024;

/** A bare client: it sends what a test says and keeps every message, so that tests see what the official client hides. */
export class RpcClient implements AsyncDisposable {
  readonly frames: Frame[] = [];
  /** Texts that are not JSON: only `pong` may be among them. */
  readonly texts: string[] = [];
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>;
  /** Resolves when the connection below is gone: to true when the agent ended it, and to false when this side gave up waiting for that. */
  readonly isEndedByAgent: Promise<boolean>;
  readonly #socket: WebSocket;
  #lastId = 0;
  #changed = Promise.withResolvers<void>();

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("message", (data) => this.#receive(String(data)));
    socket.on("close", () => this.#wake());
    this.closed = new Promise((resolve) => {
      socket.on("close", (code, reason) => resolve({ code, reason: String(reason) }));
    });
    this.isEndedByAgent = new Promise((resolve) => {
      socket.on("upgrade", ({ socket: connection }) => {
        connection.once("end", () => resolve(true));
        connection.once("close", () => resolve(false));
      });
    });
  }

  static async connect(
    socketPath: string,
    headers: Readonly<Record<string, string>> = {},
    { autoPong = true }: { readonly autoPong?: boolean } = {},
  ): Promise<RpcClient> {
    const options = { headers, autoPong, perMessageDeflate: false, maxPayload: MAX_MESSAGE_BYTES };
    const socket = new WebSocket(`ws+unix://${socketPath}:/rpc`, options);
    const client = new RpcClient(socket);
    await once(socket, "open");
    return client;
  }

  /** Sends a request without waiting and returns its id. */
  request(method: string, params: unknown): number {
    const id = ++this.#lastId;
    this.#socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    return id;
  }

  send(text: string): void {
    this.#socket.send(text);
  }

  /** The socket itself, for what is below messages. */
  get socket(): WebSocket {
    return this.#socket;
  }

  notify(method: string, params: unknown): void {
    this.#socket.send(JSON.stringify({ jsonrpc: "2.0", method, params }));
  }

  /** Bytes that the socket has not passed on yet. */
  get unsentBytes(): number {
    return this.#socket.bufferedAmount;
  }

  /** The whole answer to a request. */
  async answer(id: number): Promise<Frame> {
    return await this.until(() => this.frames.find((frame) => frame.id === id), `an answer to request ${id}`);
  }

  /** Calls a method and returns the value of `ok`. */
  async ok(method: string, params: unknown): Promise<unknown> {
    const { result, error } = await this.answer(this.request(method, params));
    if (result === undefined || !("ok" in result)) {
      throw new Error(`${method} failed: ${JSON.stringify(result?.error ?? error)}`);
    }
    return result.ok;
  }

  /** Calls a method and returns the error object of its result. */
  async failure(method: string, params: unknown): Promise<ErrorObject> {
    const { result, error } = await this.answer(this.request(method, params));
    if (result?.error === undefined) throw new Error(`${method} did not fail: ${JSON.stringify(result ?? error)}`);
    return result.error;
  }

  /** The notifications of one stream so far, by the last part of their method's name. */
  stream(streamId: number): { readonly kind: string; readonly frame: Frame }[] {
    return this.frames
      .filter(({ method, params }) => method?.startsWith("$sandbox.stream.") && params?.streamId === streamId)
      .map((frame) => ({ kind: frame.method?.split(".").at(-1) ?? "", frame }));
  }

  /** The chunks of a stream, once it has ended. Throws the error object of one that failed. */
  async chunks(streamId: number): Promise<Buffer[]> {
    const isOver = ({ kind }: { kind: string }) => kind === "end" || kind === "error";
    const last = await this.until(() => this.stream(streamId).find(isOver), `the end of stream ${streamId}`);
    if (last.kind === "error") throw last.frame.params?.error;
    return this.stream(streamId)
      .filter(({ kind }) => kind === "enqueue")
      .map(({ frame }) => Buffer.from(String(frame.params?.data), "base64"));
  }

  /** Waits until `find` finds something. */
  async until<T>(find: () => T | undefined, what: string): Promise<T> {
    const deadline = AbortSignal.timeout(DEADLINE_MS);
    const late = once(deadline, "abort");
    for (;;) {
      const found = find();
      if (found !== undefined) return found;
      if (deadline.aborted) throw new Error(`Waited ${DEADLINE_MS} ms for ${what}`);
      if (this.#socket.readyState === WebSocket.CLOSED) throw new Error(`The connection closed before ${what}`);
      await Promise.race([this.#changed.promise, late]);
    }
  }

  async close(): Promise<void> {
    if (this.#socket.readyState === WebSocket.CLOSED) return;
    this.#socket.close();
    await once(this.#socket, "close");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #receive(text: string): void {
    if (text.startsWith("{")) this.frames.push({ atMs: performance.now(), ...JSON.parse(text) });
    else this.texts.push(text);
    this.#wake();
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
