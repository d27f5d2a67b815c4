import { once } from "node:events";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

/**
 * What happens to a request on its way: nothing, or it waits, is cut off before it arrives, is answered in the service's place, has its answer cut after some bytes, arrives with a bit of its body changed, arrives
 * twice, or arrives and its answer is lost.
 */
export type Fault =
  | { readonly kind: "delay"; readonly ms: number }
  /** Waits until something has happened. */
  | { readonly kind: "hold"; readonly until: Promise<void> }
  | { readonly kind: "cut" }
  | { readonly kind: "answer"; readonly status: number; readonly code: string }
  | { readonly kind: "truncate"; readonly bytes: number }
  | { readonly kind: "corrupt" }
  | { readonly kind: "repeat" }
  | { readonly kind: "lose-answer" };

type Choose = (request: { readonly method: string; readonly path: string; readonly count: number }) => Fault | null;

/** Stands between a client and an S3 service, whose signatures it leaves as they are. */
export class FaultProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #target: URL;
  /** Ends the requests that wait. */
  readonly #closing = new AbortController();
  #choose: Choose = () => null;
  #count = 0;

  private constructor(server: Server, target: URL) {
    this.#server = server;
    this.#target = target;
  }

  static async start(target: string): Promise<FaultProxy> {
    const server = createServer();
    const proxy = new FaultProxy(server, new URL(target));
    server.on("request", (incoming, outgoing) => void proxy.#pass(incoming, outgoing).catch(() => outgoing.destroy()));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return proxy;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** How many requests came since `set`. */
  get count(): number {
    return this.#count;
  }

  /** Says what happens to each request from here on; `count` is 1 for the first. */
  set(choose: Choose): void {
    this.#choose = choose;
    this.#count = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #pass(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    this.#count += 1;
    const { method = "GET", url = "/" } = incoming;
    const fault = this.#choose({ method, path: url, count: this.#count });
    const body = Buffer.concat(await Array.fromAsync(incoming as AsyncIterable<Buffer>));
    if (fault?.kind === "hold") await fault.until;
    if (fault?.kind === "delay") await delay(fault.ms, undefined, { signal: this.#closing.signal });
    if (fault?.kind === "cut") return void incoming.socket.destroy();
    if (fault?.kind === "answer") {
      outgoing.writeHead(fault.status, { "content-type": "application/xml" });
      outgoing.end(`<?xml version="1.0"?><Error><Code>${fault.code}</Code><Message>injected</Message></Error>`);
      return;
    }
    if (fault?.kind === "corrupt" && body.length > 0) body[0] = (body[0] ?? 0) ^ 1;
    if (fault?.kind === "repeat") await this.#forward(incoming, body);
    const { status, headers, bytes } = await this.#forward(incoming, body);
    if (fault?.kind === "lose-answer") return void incoming.socket.destroy();
    outgoing.writeHead(status, headers);
    if (fault?.kind !== "truncate") return void outgoing.end(bytes);
    outgoing.write(bytes.subarray(0, fault.bytes), () => incoming.socket.destroy());
  }

  /** The host header stays that which the client has signed. */
  async #forward({ method, url, headers }: IncomingMessage, body: Buffer) {
    const { hostname, port } = this.#target;
    const sent = request({ hostname, port, method, path: url, headers, agent: false });
    sent.end(body);
    const [answer] = (await once(sent, "response")) as [IncomingMessage];
    const bytes = Buffer.concat(await Array.fromAsync(answer as AsyncIterable<Buffer>));
    const { "transfer-encoding": _encoding, ...kept } = answer.headers;
    return { status: answer.statusCode ?? 500, headers: kept, bytes };
  }
}
