import { once } from "node:events";
import net from "node:net";

/** Where to listen, or to connect to: a port of 127.0.0.1, or the path of a socket. */
export type Place = number | string;
/** `silent`: nothing passes and nobody is told, as on a network that lost its way. `refusing`: connections end, and new ones do at once. */
export type Cut = "silent" | "refusing";

/** A piece of network that a test can cut: takes connections, and passes on what comes on them, both ways. */
export class Network implements AsyncDisposable {
  readonly #targets: readonly Place[];
  #count = 0;
  readonly #server: net.Server;
  readonly #pairs = new Set<Pair>();
  #cut: Cut | null = null;

  private constructor(targets: readonly Place[]) {
    this.#targets = targets;
    this.#server = net.createServer({ pauseOnConnect: true }, (client) => this.#accept(client));
  }

  /** With several targets each connection goes to the next one, as behind a load balancer. */
  static async between(listen: Place, ...targets: readonly Place[]): Promise<Network> {
    const network = new Network(targets);
    if (typeof listen === "number") network.#server.listen(listen, "127.0.0.1");
    else network.#server.listen(listen);
    await once(network.#server, "listening");
    return network;
  }

  cut(how: Cut): void {
    this.#cut = how;
    for (const pair of this.#pairs) {
      if (how === "silent") pair.hold();
      else pair.end();
    }
  }

  /** What was held passes now. */
  heal(): void {
    this.#cut = null;
    for (const pair of this.#pairs) pair.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pair of this.#pairs) pair.end();
    this.#server.close();
    await once(this.#server, "close");
  }

  #accept(client: net.Socket): void {
    if (this.#cut === "refusing") {
      client.destroy();
      return;
    }
    const target = this.#targets[this.#count++ % this.#targets.length] as Place;
    const pair = new Pair(client, target, () => this.#pairs.delete(pair));
    this.#pairs.add(pair);
    if (this.#cut === null) pair.release();
  }
}

/** One connection and the one that it is passed on by. */
class Pair {
  readonly #client: net.Socket;
  readonly #target: Place;
  readonly #onEnd: () => void;
  #server: net.Socket | null = null;
  #isHeld = true;
  /** One side has broken off, or ended while the network is cut and the other does not know. */
  #isEnded = false;

  constructor(client: net.Socket, target: Place, onEnd: () => void) {
    this.#client = client;
    this.#target = target;
    this.#onEnd = onEnd;
    this.#watch(client);
  }

  hold(): void {
    this.#isHeld = true;
    this.#client.pause();
    this.#server?.pause();
  }

  release(): void {
    this.#isHeld = false;
    if (this.#isEnded) {
      this.end();
      return;
    }
    this.#server ??= this.#connect();
    this.#client.resume();
    this.#server.resume();
  }

  end(): void {
    this.#client.destroy();
    this.#server?.destroy();
    this.#onEnd();
  }

  #connect(): net.Socket {
    const target = this.#target;
    const server = typeof target === "number" ? net.connect(target, "127.0.0.1") : net.connect(target);
    this.#watch(server);
    this.#pass(this.#client, server);
    this.#pass(server, this.#client);
    return server;
  }

  #watch(socket: net.Socket): void {
    socket.on("error", () => {});
    socket.once("close", (isBroken) => {
      if (isBroken || this.#isHeld) this.#isEnded = true;
      if (this.#isHeld) return;
      if (isBroken) this.end();
      else this.#finish(socket === this.#client ? this.#server : this.#client);
    });
  }

  /** One side has ended well: the other one gets what is on its way to it, and then the end. */
  #finish(other: net.Socket | null): void {
    if (other === null || other.closed) this.#onEnd();
    else other.end();
  }

  #pass(from: net.Socket, to: net.Socket): void {
    from.on("data", (chunk) => {
      if (to.write(chunk)) return;
      from.pause();
      to.once("drain", () => {
        if (!this.#isHeld) from.resume();
      });
    });
  }
}
