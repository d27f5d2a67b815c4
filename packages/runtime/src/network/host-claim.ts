import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { hasErrorCode } from "@caisson/linux";

/**
 * Exclusive use of a name among all servers that share this network namespace, which is as far as their interfaces and addresses reach.
 * It is an abstract Unix socket that nobody ever connects to: the kernel gives it back when its owner ends, however it ends.
 */
export class HostClaim implements AsyncDisposable {
  readonly #server: Server;

  constructor(server: Server) {
    this.#server = server;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    await closed;
  }
}

/** Claims the name, or returns `null` when it is taken. */
export async function tryHostClaim(name: string): Promise<HostClaim | null> {
  const server = createServer((socket) => socket.destroy());
  try {
    server.listen(`\0caisson/${name}`);
    await once(server, "listening");
    // The claim alone is no reason to keep a process alive that has nothing else to do.
    server.unref();
    return new HostClaim(server);
  } catch (error) {
    if (hasErrorCode(error, "EADDRINUSE")) return null;
    throw error;
  }
}
