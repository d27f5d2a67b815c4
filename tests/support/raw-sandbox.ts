import { once } from "node:events";
import type { IncomingHttpHeaders } from "node:http";
import type { Socket } from "node:net";
import { WebSocket } from "ws";
import type { TestServer } from "./server.ts";

/** Where a client goes, and as whom. */
type Address = Pick<TestServer, "endpoint" | "token">;

interface Options {
  readonly autoPong?: boolean;
  /** Whom to believe who the server is. */
  readonly ca?: string;
}

/** A message of JSON-RPC, as far as tests look into it. */
interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: { readonly streamId: number; readonly data?: string };
  readonly result?: { readonly ok?: unknown; readonly error?: unknown };
  readonly error?: unknown;
}

/** Why a create or a connect was refused. */
export class UpgradeRefusedError extends Error {
  readonly status: number;
  readonly code: string;

  /** The header. */
  readonly retryAfter: string | null;

  constructor(
    status: number,
    body: { readonly code: string; readonly message: string },
    retryAfter: string | null = null,
  ) {
    super(body.message);
    this.status = status;
    this.retryAfter = retryAfter;
    this.code = body.code;
  }
}

/** A connection to a sandbox that sends the configuration as it is given, in any client's dialect, and can be made to vanish. */
export class RawSandbox implements AsyncDisposable {
  readonly id: string;
  /** When it ends, as the answer to the upgrade says; null for a session. Epoch milliseconds. */
  readonly stopAtMs: number | null;
  readonly socket: WebSocket;
  /** Resolves with the close code. */
  readonly closed: Promise<number>;
  readonly #connection: Socket;
  readonly #waiting = new Map<number, (message: Message) => void>();
  readonly #streams = new Map<number, { bytes: Buffer[]; readonly ended: PromiseWithResolvers<void> }>();
  #nextId = 1;

  private constructor(headers: IncomingHttpHeaders, socket: WebSocket, connection: Socket) {
    this.#connection = connection;
    this.id = String(headers["x-deno-sandbox-id"]);
    const stopAtMs = headers["x-caisson-stop-at-ms"];
    this.stopAtMs = stopAtMs === undefined ? null : Number(stopAtMs);
    this.socket = socket;
    this.closed = once(socket, "close").then(([code]) => code as number);
    socket.on("message", (data) => this.#receive(JSON.parse(String(data)) as Message));
    socket.on("error", () => {});
  }

  /** `autoPong: false`: the client does not answer pings, as one whose machine is gone. */
  static create(server: Address, config: object, options: Options = {}): Promise<RawSandbox> {
    const header = Buffer.from(JSON.stringify(config), "latin1").toString("base64");
    return RawSandbox.#open(server, "/api/v3/sandboxes/create", { "x-deno-sandbox-config": header }, options);
  }

  static connect(server: Address, id: string, options: Options = {}): Promise<RawSandbox> {
    return RawSandbox.#open(server, `/api/v3/sandbox/${id}/connect`, {}, options);
  }

  static async #open(
    server: Address,
    path: string,
    headers: Readonly<Record<string, string>>,
    options: Options,
  ): Promise<RawSandbox> {
    const socket = new WebSocket(new URL(path, server.endpoint), {
      headers: { authorization: `Bearer ${server.token}`, ...headers },
      maxPayload: 2 ** 28,
      perMessageDeflate: false,
      ...options,
    });
    const opened = Promise.withResolvers<RawSandbox>();
    socket.once("upgrade", (response) => {
      // Made before the first message can arrive.
      opened.resolve(new RawSandbox(response.headers, socket, response.socket));
    });
    socket.once("unexpected-response", async (_request, response) => {
      let body = "";
      for await (const chunk of response) body += chunk;
      opened.reject(
        new UpgradeRefusedError(response.statusCode ?? 0, JSON.parse(body), response.headers["retry-after"] ?? null),
      );
    });
    socket.once("error", opened.reject);
    const sandbox = await opened.promise;
    if (socket.readyState === WebSocket.CONNECTING) await once(socket, "open");
    return sandbox;
  }

  /** Sends a request and returns the value of `ok`; throws with the whole answer when it is another. */
  async call<T>(method: string, params: object = {}): Promise<T> {
    const id = this.#nextId++;
    const answer = new Promise<Message>((resolve) => this.#waiting.set(id, resolve));
    this.socket.send(JSON.stringify({ jsonrpc: "2.0", method, params, id }));
    const message = await answer;
    if (message.result === undefined || !("ok" in message.result)) throw new Error(JSON.stringify(message));
    return message.result.ok as T;
  }

  /** Starts a program with piped output. */
  spawn(command: string, args: readonly string[]): Promise<{ readonly pid: number; readonly stdoutStreamId: number }> {
    return this.call("spawn", { command, args, stdout: "piped", stderr: "null" });
  }

  /** Runs a shell script to its end and returns what it printed. */
  async run(script: string): Promise<string> {
    const { pid, stdoutStreamId } = await this.spawn("bash", ["-c", script]);
    await this.call("processWait", { pid });
    return (await this.output(stdoutStreamId)).toString().trim();
  }

  /** Everything that a stream brings until its end. */
  async output(streamId: number): Promise<Buffer> {
    const stream = this.#stream(streamId);
    await stream.ended.promise;
    return Buffer.concat(stream.bytes);
  }

  /** Bytes that a stream has brought so far. */
  receivedBytes(streamId: number): number {
    return this.#stream(streamId).bytes.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  /** Breaks the connection without a word, as a crash does. */
  crash(): void {
    this.socket.terminate();
  }

  /** Breaks it with a reset, as the system does for a program that dies with something unread. */
  reset(): void {
    this.#connection.resetAndDestroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket.close();
    await this.closed;
  }

  #receive(message: Message): void {
    if (message.id !== undefined) {
      this.#waiting.get(message.id)?.(message);
      this.#waiting.delete(message.id);
      return;
    }
    const { method, params } = message;
    if (params === undefined) return;
    const stream = this.#stream(params.streamId);
    if (method === "$sandbox.stream.enqueue") stream.bytes.push(Buffer.from(params.data ?? "", "base64"));
    if (method === "$sandbox.stream.end") stream.ended.resolve();
  }

  #stream(id: number) {
    const existing = this.#streams.get(id);
    if (existing !== undefined) return existing;
    const stream = { bytes: [], ended: Promise.withResolvers<void>() };
    this.#streams.set(id, stream);
    return stream;
  }
}
