import { join, resolve } from "node:path";
import { hasErrorCode } from "@caisson/linux";
import type { AppContext } from "../app/context.ts";
import type { SshConfig } from "../config.ts";
import { explainListening } from "../listen-address.ts";
import { openHostKey } from "./host-key.ts";
import { SshServer } from "./ssh-server.ts";

/** Listens for SSH clients, unless the settings switch it off. What it returns ends it. */
export async function startSsh(app: AppContext): Promise<AsyncDisposable> {
  await using undo = new AsyncDisposableStack();
  const { ssh, dataDirectory } = app.config;
  if (ssh !== null) {
    const hostKey = await openHostKey(join(resolve(dataDirectory), "ssh"));
    const server = undo.use(new SshServer(app, hostKey));
    const listened = await listen(server, ssh);
    const { hostname } = ssh;
    const port = ssh.publicPort ?? listened;
    app.ssh.setEndpoint({ hostname, port, hostKey: hostKey.publicKey, fingerprint: hostKey.fingerprint });
    app.logger.info({ hostname, port, fingerprint: hostKey.fingerprint }, "SSH is served");
  }
  return undo.move();
}

async function listen(server: SshServer, { listenHost, listenPort, isPortFree }: SshConfig): Promise<number> {
  try {
    return await server.listen(listenHost, listenPort);
  } catch (error) {
    if (isPortFree && hasErrorCode(error, "EADDRINUSE")) return server.listen(listenHost, 0);
    return explainListening(
      listenHost,
      listenPort,
      () => Promise.reject(error),
      "ssh.listen in caisson.toml, or switch SSH off with ssh.enabled = false",
    );
  }
}
