import { createServer, type Server, type Socket } from "node:net";
import type { AppContext } from "../app/context.ts";
import { closeListener, listen } from "../connections/listener.ts";
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
    return await listen(this.#listener, host, port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = closeListener(this.#listener);
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
