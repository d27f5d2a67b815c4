import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";
import type { SandboxMetadata } from "../src/index.ts";

interface Message {
  readonly id?: number;
  readonly method: string;
  readonly params: Record<string, unknown>;
}

/** When a fake sandbox says that it stopped. */
export const STOPPED_AT = new Date("2026-01-30T18:33:40.790Z");

/** What the control plane reserves. */
const EXPOSURES: Readonly<Record<string, object>> = {
  http: { domain: "random.example" },
  vscode: { domain: "editor.example" },
  ssh: { hostname: "ssh.example", username: "secret-name", port: 22 },
};

/** How a fake sandbox answers a call: the value of `ok`, or a promise that never settles for no answer. */
export type FakeCall = (params: Record<string, unknown>, sandbox: FakeSandbox) => unknown;

/** A sandbox whose every message a test decides, to provoke what a real one never sends. */
export class FakeSandbox implements AsyncDisposable {
  /** Everything that the client sent. */
  readonly received: Message[] = [];
  /** What questions after the sandbox's state are answered with, one after another; then it is unknown. */
  readonly states: (SandboxMetadata["status"] | "failure")[] = [];
  /** What the end of the sandbox has found wrong. */
  damages: readonly string[] = [];
  /** The questions that were asked. */
  readonly questions: string[] = [];
  readonly #server: Server;
  readonly #webSockets: WebSocketServer;
  #socket: WebSocket | undefined;

  private constructor(calls: Readonly<Record<string, FakeCall>>, headers: Readonly<Record<string, string>>) {
    this.#server = createServer((request, response) => {
      const [, exposure] = /\/expose\/(\w+)$/.exec(request.url ?? "") ?? [];
      if (exposure !== undefined) {
        request.resume();
        response.end(JSON.stringify(EXPOSURES[exposure]));
        return;
      }
      this.questions.push(`${request.method} ${request.url}`);
      const status = this.states.shift();
      const sandbox = {
        id: "sbx_ord_0123456789abcdefghjk",
        createdAt: new Date(),
        stoppedAt: status === "stopped" ? STOPPED_AT : null,
        stopReason: status === "stopped" ? "timeout" : null,
        region: "ord",
        labels: {},
        status,
        damages: status === "stopped" ? this.damages : [],
      };
      if (status === undefined) response.writeHead(404).end('{"code":"SANDBOX_NOT_FOUND","message":""}');
      else if (status === "failure") response.writeHead(500).end('{"code":"INTERNAL_ERROR","message":""}');
      else response.end(JSON.stringify(sandbox));
    });
    this.#webSockets = new WebSocketServer({ server: this.#server });
    this.#webSockets.on("headers", (lines) => {
      for (const [name, value] of Object.entries(headers)) lines.push(`${name}: ${value}`);
    });
    this.#webSockets.on("connection", (socket) => {
      this.#socket = socket;
      socket.on("message", async (data) => {
        const message = JSON.parse(data.toString()) as Message;
        this.received.push(message);
        if (message.id === undefined) return;
        const ok = await (calls[message.method]?.(message.params, this) ?? null);
        this.send({ jsonrpc: "2.0", id: message.id, result: { ok } });
      });
    });
  }

  static async start(
    calls: Readonly<Record<string, FakeCall>> = {},
    headers: Readonly<Record<string, string>> = { "x-deno-sandbox-id": "sbx_ord_0123456789abcdefghjk" },
  ): Promise<FakeSandbox> {
    const sandbox = new FakeSandbox(calls, headers);
    await new Promise<void>((resolve) => sandbox.#server.listen(0, "127.0.0.1", resolve));
    return sandbox;
  }

  get options(): { token: string; apiEndpoint: string; sandboxEndpoint: string } {
    const endpoint = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return { token: "ddo_x", apiEndpoint: endpoint, sandboxEndpoint: endpoint };
  }

  /** The socket of the last client. */
  get socket(): WebSocket {
    if (this.#socket === undefined) throw new Error("No client has connected");
    return this.#socket;
  }

  send(message: object): void {
    this.#socket?.send(JSON.stringify(message));
  }

  notify(method: string, params: object): void {
    this.send({ jsonrpc: "2.0", method: `$sandbox.stream.${method}`, params });
  }

  /** Sends one chunk of a stream. */
  chunk(streamId: number, data: string | Uint8Array): void {
    this.notify("enqueue", { streamId, data: Buffer.from(data).toString("base64") });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#webSockets.clients) client.terminate();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Calls for a process that never ends by itself. */
export const RUNNING_PROCESS: Readonly<Record<string, FakeCall>> = {
  spawn: () => ({ pid: 7, stdoutStreamId: 40, stderrStreamId: null }),
  processWait: () => new Promise(() => undefined),
};
