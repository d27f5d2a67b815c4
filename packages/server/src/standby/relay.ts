import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as delay, setImmediate as nextTurn } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import type { ListenerAddress } from "@caisson/database";

/** How long a connection waits for a server that leads, which is longer than another one needs to take over from one that is frozen. */
const WAIT_MS = 30_000;
const RETRY_MS = 250;
const CONNECT_TIMEOUT_MS = 5_000;
/** Of those that wait; more are refused. */
const MAX_WAITING = 1_000;
const KEEP_ALIVE_MS = 10_000;

/** Takes connections at one address for the server that leads, and passes on each byte of both directions. */
export class Relay implements Disposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Those to the target. */
  readonly #onward = new Set<Socket>();
  readonly #closing = new AbortController();
  #waitingCount = 0;
  #target: ListenerAddress | null = null;

  private constructor() {
    this.#server = createServer(
      { allowHalfOpen: true, pauseOnConnect: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS },
      (socket) => {
        void this.#pass(socket);
      },
    );
  }

  /** Rejects with the kernel's error when the address cannot be listened on. */
  static async listen({ host, port }: ListenerAddress): Promise<Relay> {
    const relay = new Relay();
    relay.#server.listen(port, host);
    await once(relay.#server, "listening");
    return relay;
  }

  /** The port that is listened at. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Where connections go from now on. Null: they wait. Those that went elsewhere end: who is there does not lead any more. */
  setTarget(target: ListenerAddress | null): void {
    if (isDeepStrictEqual(target, this.#target)) return;
    this.#target = target;
    for (const socket of this.#onward) socket.destroy();
  }

  /** Listens no more, so that the address is free. Connections that it has go on. */
  release(): void {
    this.#server.close();
  }

  [Symbol.dispose](): void {
    this.#closing.abort();
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Never rejects. */
  async #pass(socket: Socket): Promise<void> {
    this.#keep(socket);
    // What is connected on one side and accepted on the other within one turn is known as both after it.
    await nextTurn();
    const own = this.#findOwn(socket);
    if (own !== null) {
      own.destroy();
      return void socket.destroy();
    }
    const onward = await this.#connect(socket);
    if (onward === null) return void socket.destroy();
    socket.pipe(onward).pipe(socket);
    // What breaks on one side breaks on the other; an end of one direction has been piped.
    for (const [one, other] of [
      [socket, onward],
      [onward, socket],
    ] as const)
      one.once("close", () => {
        if (one.errored !== null || !one.readableEnded) other.destroy();
      });
  }

  /** Null: the client is gone, or nobody leads for too long. */
  async #connect(client: Socket): Promise<Socket | null> {
    if (this.#waitingCount >= MAX_WAITING) return null;
    this.#waitingCount += 1;
    try {
      const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(WAIT_MS)]);
      while (!signal.aborted && !client.destroyed) {
        const target = this.#target;
        const onward = target === null ? null : await tryToConnect(target);
        if (onward !== null) {
          this.#keep(onward);
          if (!client.destroyed && target === this.#target) {
            this.#onward.add(onward);
            onward.once("close", () => this.#onward.delete(onward));
            return onward;
          }
          onward.destroy();
        }
        await delay(RETRY_MS, undefined, { signal }).catch(() => {});
      }
      return null;
    } finally {
      this.#waitingCount -= 1;
    }
  }

  /** The other end of an accepted connection, if this relay has made it: the target is this relay itself, and would be so without end. */
  #findOwn({ remoteAddress, remotePort, localAddress }: Socket): Socket | null {
    if (remoteAddress !== localAddress) return null;
    return [...this.#onward].find(({ localPort }) => localPort === remotePort) ?? null;
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => {}).once("close", () => this.#sockets.delete(socket));
    if (this.#closing.signal.aborted) socket.destroy();
  }
}

/** Null: nobody answers there. */
async function tryToConnect({ host, port }: ListenerAddress): Promise<Socket | null> {
  const socket = connect({
    host,
    port,
    allowHalfOpen: true,
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_MS,
    noDelay: true,
  });
  const { promise, resolve } = Promise.withResolvers<Socket | null>();
  const timer = setTimeout(() => resolve(null), CONNECT_TIMEOUT_MS);
  socket.once("connect", () => resolve(socket)).once("error", () => resolve(null));
  const connected = await promise;
  clearTimeout(timer);
  if (connected === null) socket.destroy();
  return connected;
}
