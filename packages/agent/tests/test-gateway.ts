import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";

/** A sandbox id of the right shape; the gateway has only this one. */
export const TEST_SANDBOX_ID = "sbx_ord_0123456789abcdefghjk";

/**
 * The smallest server that an official client takes for the hosted one: it forwards create and connect upgrades to an agent, adds
 * `x-deno-sandbox-id` to the answer and copies bytes. `configs` are the decoded create configurations.
 */
export class TestGateway implements AsyncDisposable {
  readonly endpoint: string;
  readonly configs: unknown[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Duplex>();

  private constructor(server: Server, socketPath: string) {
    this.#server = server;
    this.endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on("upgrade", (request, socket, head) => this.#forward(request, socket, head, connect(socketPath)));
  }

  static async start(socketPath: string): Promise<TestGateway> {
    const server = createServer((_request, response) =>
      response.writeHead(404).end('{"code":"NOT_FOUND","message":""}'),
    );
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new TestGateway(server, socketPath);
  }

  /** Options for `Sandbox.create` and `Sandbox.connect` of the JavaScript client. */
  get options(): { readonly token: string; readonly sandboxEndpoint: string; readonly apiEndpoint: string } {
    return { token: "ddo_test", sandboxEndpoint: this.endpoint, apiEndpoint: this.endpoint };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #forward(request: IncomingMessage, client: Duplex, head: Buffer, agent: Socket): void {
    const config = request.headers["x-deno-sandbox-config"];
    if (typeof config === "string") this.configs.push(JSON.parse(Buffer.from(config, "base64").toString("latin1")));
    const lines = [`GET /rpc HTTP/1.1`];
    for (let index = 0; index < request.rawHeaders.length; index += 2) {
      lines.push(`${request.rawHeaders[index]}: ${request.rawHeaders[index + 1]}`);
    }
    agent.write(`${lines.join("\r\n")}\r\n\r\n`);
    agent.write(head);
    let answer = Buffer.alloc(0);
    const onData = (chunk: Buffer) => {
      answer = Buffer.concat([answer, chunk]);
      const lineEnd = answer.indexOf("\r\n");
      if (lineEnd === -1) return;
      agent.off("data", onData);
      client.write(
        Buffer.concat([answer.subarray(0, lineEnd), Buffer.from(`\r\nx-deno-sandbox-id: ${TEST_SANDBOX_ID}`)]),
      );
      client.write(answer.subarray(lineEnd));
      agent.pipe(client).pipe(agent);
    };
    agent.on("data", onData);
    for (const [socket, other] of [
      [client, agent],
      [agent, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
  }
}
