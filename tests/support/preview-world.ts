import assert from "node:assert/strict";
import { Sandbox } from "@deno/sandbox";
import { TestClient } from "./client.ts";
import { PreviewClient } from "./preview-client.ts";
import { TestServer } from "./server.ts";

/** A server inside that tells what it was asked, and does what the path says. */
const ECHO = `
const http = require("node:http");
const crypto = require("node:crypto");
const server = http.createServer(async (request, response) => {
  const { pathname } = new URL(request.url, "http://x");
  if (pathname === "/events") {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("data: first\\n\\n");
    request.socket.on("close", () => console.log("client left"));
    return;
  }
  if (pathname === "/cookies") {
    response.writeHead(200, [["set-cookie", "a=1; Domain=caisson.localhost; Path=/"], ["set-cookie", "b=2; HttpOnly"], ["alt-svc", 'h3=":1"'], ["connection", "x-hop"], ["x-hop", "1"]]);
    return response.end();
  }
  if (pathname === "/large") {
    const piece = Buffer.alloc(65536, 97);
    let left = 1024;
    const more = () => { while (left-- > 0) if (!response.write(piece)) return response.once("drain", more); response.end(); };
    return more();
  }
  if (pathname === "/half") {
    response.writeHead(200, { "content-length": 100 });
    response.write("half");
    return setTimeout(() => request.socket.destroy(), 50);
  }
  if (pathname === "/trailers") return request.socket.end("HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n1\\r\\na\\r\\n0\\r\\nETag: one\\r\\nETag: two\\r\\nHost: a\\r\\nHost: b\\r\\n\\r\\n");
  if (pathname === "/nonsense") return request.socket.end("HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n1\\r\\na\\r\\n0\\r\\n\\r\\n");
  const hash = crypto.createHash("sha256");
  let bytes = 0;
  for await (const chunk of request) { hash.update(chunk); bytes += chunk.length; }
  response.setHeader("x-served", "yes");
  response.end(JSON.stringify({ method: request.method, url: request.url, raw: request.rawHeaders, bytes, hash: hash.digest("hex") }));
});
server.on("upgrade", (request, socket) => {
  const accept = crypto.createHash("sha1").update(request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");
  socket.write("HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: " + accept + "\\r\\n\\r\\n");
  // An echo of small text frames: the mask is taken off.
  socket.on("data", (frame) => {
    const opcode = frame[0] & 15, length = frame[1] & 127;
    if (opcode === 8) return socket.end(Buffer.from([0x88, 0]));
    const mask = frame.subarray(2, 6);
    const text = Buffer.from(frame.subarray(6, 6 + length).map((byte, index) => byte ^ mask[index & 3]));
    socket.write(Buffer.concat([Buffer.from([0x81, length]), text]));
  });
});
server.listen(Number(process.argv[2]), process.argv[3], () => console.log("listening"));
`;

/** What the server inside was asked. */
export interface Echo {
  readonly method: string;
  readonly url: string;
  readonly raw: readonly string[];
  readonly bytes: number;
  readonly hash: string;
}

/** A server with two sandboxes, in each of which the echo listens. */
export class PreviewWorld implements AsyncDisposable {
  readonly server: TestServer;
  readonly client: TestClient;
  readonly preview: PreviewClient;
  readonly sandbox: Sandbox;
  readonly other: Sandbox;
  /** A preview of the first sandbox's echo. */
  readonly url: string;

  private constructor(parts: Pick<PreviewWorld, "server" | "client" | "preview" | "sandbox" | "other" | "url">) {
    this.server = parts.server;
    this.client = parts.client;
    this.preview = parts.preview;
    this.sandbox = parts.sandbox;
    this.other = parts.other;
    this.url = parts.url;
  }

  static async start(settings = ""): Promise<PreviewWorld> {
    const server = await TestServer.start({ settings });
    try {
      Object.assign(process.env, server.clientEnv());
      const [sandbox, other] = [await Sandbox.create(), await Sandbox.create()];
      await serve(sandbox, 8000, "127.0.0.1");
      await serve(other, 8000, "127.0.0.1");
      const preview = await PreviewClient.of(server.dataDirectory);
      const url = await sandbox.exposeHttp({ port: 8000 });
      return new PreviewWorld({ server, client: new TestClient(server), preview, sandbox, other, url });
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sandbox.kill();
    await this.other.kill();
    await this.server[Symbol.asyncDispose]();
  }

  async echo(target: string, options = {}, body?: string | Buffer): Promise<Echo> {
    const answer = await this.preview.get(target, options, body);
    assert.equal(answer.status, 200, answer.body);
    return JSON.parse(answer.body) as Echo;
  }

  /** Reserves a name over HTTP, as the official client does before it binds it. */
  expose(id: string, body: object): Promise<{ domain: string; url: string; token: string | null }> {
    return this.client.rest("POST", `/api/v3/sandbox/${id}/expose/http`, body);
  }
}

/** Starts the echo inside, and resolves when it listens. */
export async function serve(where: Sandbox, port: number, address: string): Promise<void> {
  const child = await where.spawn("node", { args: ["-e", ECHO, "echo", String(port), address], stdout: "piped" });
  const reader = child.stdout?.getReader();
  const { value } = (await reader?.read()) ?? {};
  assert.match(new TextDecoder().decode(value), /listening/);
  reader?.releaseLock();
}

/** The values of a header that the server inside was sent, in their order. */
export function header({ raw }: Echo, name: string): readonly string[] {
  return raw.filter((_, index) => index % 2 === 1 && raw[index - 1]?.toLowerCase() === name);
}

export function hostOf(address: string): string {
  return new URL(address).host;
}
