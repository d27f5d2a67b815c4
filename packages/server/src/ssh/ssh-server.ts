import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import type { AppContext } from "../app/context.ts";
import { AddressLimits } from "./address-limits.ts";
import type { HostKey } from "./host-key.ts";
import { CONNECTIONS_MAX } from "./limits.ts";
import { SshConnection } from "./ssh-connection.ts";
import { UnreadBytes } from "./unread-bytes.ts";

/** Where SSH clients reach sandboxes. */
export class SshServer implements AsyncDisposable {
  readonly #app: AppContext;
  readonly #hostKey: HostKey;
  readonly #listener: Server;
  readonly #connections = new Set<SshConnection>();
  readonly #addresses = new AddressLimits();
  readonly #unread = new UnreadBytes();

  constructor(app: AppContext, hostKey: HostKey) {
    this.#app = app;
    this.#hostKey = hostKey;
    this.#listener = createServer((socket) => this.#accept(socket));
    this.#listener.maxConnections = CONNECTIONS_MAX;
  }

  /** Listens, and resolves with the port. */
  async listen(host: string, port: number): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#listener.once("error", reject).listen(port, host, () => {
        this.#listener.off("error", reject);
        resolve();
      });
    });
    return (this.#listener.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      if (this.#listener.listening) this.#listener.close(() => resolve());
      else resolve();
    });
    for (const connection of this.#connections) connection.end();
    await closed;
  }

  #accept(socket: Socket): void {
    socket.on("error", () => socket.destroy());
    const admit = this.#addresses.enter(socket.remoteAddress ?? "");
    if (admit === null) return void socket.destroy();
    const connection = new SshConnection(this.#app, socket, {
      hostKey: this.#hostKey.privateKey,
      unread: this.#unread,
      onAdmitted: admit,
    });
    this.#connections.add(connection);
    socket.once("close", () => this.#connections.delete(connection));
  }
}
