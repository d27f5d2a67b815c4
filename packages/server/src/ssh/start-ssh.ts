import { join, resolve } from "node:path";
import { hasErrorCode } from "@caisson/linux";
import type { AppContext } from "../app/context.ts";
import type { SshConfig } from "../config.ts";
import { explainListening } from "../listen-address.ts";
import { readChosenPort, writeChosenPort } from "./chosen-port.ts";
import { openHostKey } from "./host-key.ts";
import { SshServer } from "./ssh-server.ts";

/** Listens for SSH clients, unless the settings switch it off. What it returns ends it, and says at which port that is. */
export async function startSsh(app: AppContext): Promise<AsyncDisposable & { readonly port: number | null }> {
  await using undo = new AsyncDisposableStack();
  let listenedPort: number | null = null;
  const { ssh, dataDirectory } = app.config;
  if (ssh !== null) {
    const directory = join(resolve(dataDirectory), "ssh");
    const hostKey = await openHostKey(directory, app.store.leadership);
    const server = undo.use(new SshServer(app, hostKey));
    listenedPort = await listen(server, ssh, directory);
    const { hostname } = ssh;
    const port = ssh.publicPort ?? listenedPort;
    app.ssh.setEndpoint({ hostname, port, hostKey: hostKey.publicKey, fingerprint: hostKey.fingerprint });
    app.logger.info({ hostname, port, fingerprint: hostKey.fingerprint }, "SSH is served");
  }
  const resources = undo.move();
  return { port: listenedPort, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

async function listen(server: SshServer, { listenHost, listenPort, isPortFree }: SshConfig, directory: string) {
  const ports = isPortFree ? [await readChosenPort(directory), listenPort].filter((port) => port !== null) : [];
  for (const port of ports) {
    const listened = await server.listen(listenHost, port).catch((error: unknown) => {
      if (!hasErrorCode(error, "EADDRINUSE")) throw error;
      return null;
    });
    if (listened !== null) return listened;
  }
  if (isPortFree) {
    const chosen = await server.listen(listenHost, 0);
    await writeChosenPort(directory, chosen);
    return chosen;
  }
  try {
    return await server.listen(listenHost, listenPort);
  } catch (error) {
    return explainListening(
      listenHost,
      listenPort,
      () => Promise.reject(error),
      "ssh.listen in caisson.toml, or switch SSH off with ssh.enabled = false",
    );
  }
}
