import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SOCKET = ".s.PGSQL.5432";
const COMMIT = Buffer.from("COMMIT\0");

/** `before`: the database never sees the commit. `after`: it does, and its answer is lost. */
export type Cut = "before" | "after";

/** Stands between a client and a PostgreSQL server on a socket, and cuts connections at a commit. */
export class CutProxy implements AsyncDisposable {
  readonly directory: string;
  readonly #target: string;
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  readonly #clients = new Set<net.Socket>();
  /** Cuts that are still to come, one for each commit. */
  readonly #cuts: Cut[] = [];
  /** After the last cut nobody is let in any more. */
  #isClosing = false;
  #isClosed = false;
  #isSilent = false;

  private constructor(directory: string, targetDirectory: string) {
    this.directory = directory;
    this.#target = join(targetDirectory, SOCKET);
    this.#server = net.createServer({ allowHalfOpen: false }, (client) => this.#accept(client));
  }

  static async start(targetDirectory: string): Promise<CutProxy> {
    const proxy = new CutProxy(await mkdtemp(join(tmpdir(), "caisson-cut-")), targetDirectory);
    proxy.#server.listen(join(proxy.directory, SOCKET));
    await once(proxy.#server, "listening");
    return proxy;
  }

  /** Cuts the connections of the next commits, and with `isClosing` lets nobody in after the last of them. */
  cutNext(cuts: readonly Cut[], { isClosing = false } = {}): void {
    this.#cuts.push(...cuts);
    this.#isClosing = isClosing;
  }

  /** Nothing passes any more, and nobody is told: as when the database's machine has vanished. */
  silence(): void {
    this.#isSilent = true;
    for (const socket of this.#sockets) socket.pause();
  }

  /** How many connections clients hold. One that is closed takes nothing any more; one that is not gets a byte, after which it can only be closed. */
  async countHeld(): Promise<number> {
    const write = (socket: net.Socket) =>
      new Promise<boolean>((resolve) => void socket.write("N", (error) => resolve(error == null)));
    return (await Promise.all([...this.#clients].map(write))).filter(Boolean).length;
  }

  /** Lets everybody in again. */
  open(): void {
    this.#isClosing = false;
    this.#isClosed = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
    await rm(this.directory, { recursive: true });
  }

  #accept(client: net.Socket): void {
    if (this.#isClosed) {
      client.destroy();
      return;
    }
    const server = net.connect(this.#target);
    this.#clients.add(client);
    client.once("close", () => this.#clients.delete(client));
    let isMute = false;
    if (this.#isSilent) client.pause();
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.once("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
    server.on("data", (chunk) => {
      if (!isMute) client.write(chunk);
      else {
        client.destroy();
        server.destroy();
      }
    });
    client.on("data", (chunk) => {
      const cut = chunk.includes(COMMIT) ? this.#cuts.shift() : undefined;
      if (cut !== undefined && this.#cuts.length === 0) this.#isClosed = this.#isClosing;
      if (cut === "before") client.destroy();
      else server.write(chunk);
      isMute ||= cut === "after";
    });
  }
}
