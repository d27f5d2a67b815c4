import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, createConnection, type Socket } from "node:net";
import { TestAgent } from "@caisson/agent/testing";
import { poll } from "./poll.ts";

/** The id under which every sandbox of a gateway is known. */
export const SANDBOX_ID = "sbx_ord_0123456789abcdefghjk";

/**
 * A real agent in a directory of its own, without isolation, behind a control plane that knows just this one sandbox: create and connect
 * forward the upgrade, DELETE stops the agent, PATCH repeats what it is sent, GET answers when the creating connection is gone.
 */
export class AgentGateway implements AsyncDisposable {
  readonly #agent: TestAgent;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly configs: Record<string, unknown>[] = [];
  #isPrimaryConnected = false;

  private constructor(agent: TestAgent) {
    this.#agent = agent;
    this.#server = createServer((request, response) => void this.#answer(request, response));
    this.#server.on("upgrade", (request, socket: Socket) => this.#forward(request, socket));
  }

  static async start(): Promise<AgentGateway> {
    const gateway = new AgentGateway(await TestAgent.start({ env: { GREETING: "hello" } }));
    await new Promise<void>((resolve) => gateway.#server.listen(0, "127.0.0.1", resolve));
    return gateway;
  }

  /** The sandbox's default directory, as seen from outside. */
  get home(): string {
    return this.#agent.home;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Options for a client of this gateway. */
  get options(): { token: string; apiEndpoint: string; sandboxEndpoint: string } {
    return { token: "ddo_test", apiEndpoint: this.endpoint, sandboxEndpoint: this.endpoint };
  }

  /** The peak of the agent's resident memory, in bytes. */
  get agentMemoryBytes(): number {
    const status = readFileSync(`/proc/${this.#agent.process.pid}/status`, "utf8");
    return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) * 1024;
  }

  /** Breaks every connection without a closing handshake, as a failing network does. */
  cutConnections(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cutConnections();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    await this.#agent[Symbol.asyncDispose]();
  }

  #forward(request: IncomingMessage, socket: Socket): void {
    const isCreate = request.url === "/api/v3/sandboxes/create";
    if (isCreate) {
      this.#isPrimaryConnected = true;
      const config = String(request.headers["x-deno-sandbox-config"]);
      this.configs.push(JSON.parse(Buffer.from(config, "base64").toString("latin1")));
    }
    const upstream = createConnection(this.#agent.socketPath);
    const headers = request.rawHeaders.flatMap((name, index) =>
      index % 2 === 0 ? `${name}: ${request.rawHeaders[index + 1]}` : [],
    );
    upstream.write(`GET /rpc HTTP/1.1\r\n${headers.join("\r\n")}\r\n\r\n`);
    upstream.once("data", (head: Buffer) => {
      const lineEnd = head.indexOf("\r\n") + 2;
      socket.write(head.subarray(0, lineEnd));
      socket.write(`x-deno-sandbox-id: ${SANDBOX_ID}\r\nx-deno-trace-id: trace-1\r\n`);
      socket.write(head.subarray(lineEnd));
      upstream.pipe(socket);
      socket.pipe(upstream);
    });
    for (const end of [socket, upstream]) {
      this.#sockets.add(end);
      end.on("error", () => undefined);
      end.on("close", () => {
        this.#sockets.delete(end);
        socket.destroy();
        upstream.destroy();
        if (isCreate) this.#isPrimaryConnected = false;
      });
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setHeader("content-type", "application/json");
    if (request.method === "DELETE") {
      const stop = createConnection(this.#agent.socketPath);
      stop.end("POST /stop HTTP/1.1\r\nHost: agent\r\n\r\n");
      stop.resume();
      await new Promise((resolve) => stop.once("close", resolve));
      response.writeHead(204).end();
      return;
    }
    if (request.method === "PATCH") {
      request.pipe(response);
      return;
    }
    await poll("the primary connection is gone", () => !this.#isPrimaryConnected);
    const sandbox = {
      id: SANDBOX_ID,
      createdAt: new Date(),
      stoppedAt: new Date(),
      region: "ord",
      status: "stopped",
      labels: {},
    };
    response.end(JSON.stringify(sandbox));
  }
}
