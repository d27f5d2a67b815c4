import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from "node:http2";
import { type RequestOptions, request } from "node:https";
import { join } from "node:path";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { closed } from "./closed.ts";

export interface PreviewAnswer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** A client of previews on this machine: it trusts the server's own authority and finds every name here. */
export class PreviewClient {
  readonly ca: string;

  private constructor(ca: string) {
    this.ca = ca;
  }

  static async of(dataDirectory: string): Promise<PreviewClient> {
    return new PreviewClient(await readFile(join(dataDirectory, "previews", "authority.pem"), "utf8"));
  }

  /** The answer as soon as its head is there. */
  async open(url: string, options: RequestOptions = {}, body?: string | Buffer): Promise<IncomingMessage> {
    const outgoing = request(url, { agent: false, ca: this.ca, ...here, ...options });
    outgoing.end(body);
    const [response] = (await once(outgoing, "response")) as [IncomingMessage];
    // From here on the answer says what goes wrong.
    outgoing.on("error", () => undefined);
    return response;
  }

  async get(url: string, options: RequestOptions = {}, body?: string | Buffer): Promise<PreviewAnswer> {
    const response = await this.open(url, options, body);
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).toString() };
  }

  http2(url: string): ClientHttp2Session {
    const session = connectHttp2(url, { ca: this.ca, lookup: here.lookup });
    session.on("error", () => undefined);
    return session;
  }

  /** A bare connection, for what no library sends. */
  async raw(url: string): Promise<TLSSocket> {
    const { hostname, port } = new URL(url);
    const socket = connectTls({
      host: "127.0.0.1",
      port: Number(port),
      servername: hostname,
      ca: this.ca,
      ALPNProtocols: ["http/1.1"],
    });
    socket.on("error", () => undefined);
    await once(socket, "secureConnect");
    return socket;
  }

  /** What comes back on a bare connection until it ends. */
  async exchange(url: string, text: string): Promise<string> {
    const socket = await this.raw(url);
    socket.write(text);
    let answer = "";
    socket.on("data", (chunk: Buffer) => {
      answer += chunk.toString("latin1");
    });
    // A server that refuses a request in its middle may reset the connection behind its answer.
    await closed(socket);
    return answer;
  }
}

const here = {
  lookup: (_host, options, done) => {
    if (options.all === true) done(null, [{ address: "127.0.0.1", family: 4 }]);
    else done(null, "127.0.0.1", 4);
  },
} satisfies RequestOptions;

/** The whole answer; a stream that is reset rejects. */
export async function readStream(
  stream: ClientHttp2Stream,
): Promise<{ readonly status: number; readonly body: string }> {
  let status = 0;
  const chunks: Buffer[] = [];
  stream.on("response", (headers) => {
    status = headers[":status"] ?? 0;
  });
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  await once(stream, "end");
  return { status, body: Buffer.concat(chunks).toString() };
}
