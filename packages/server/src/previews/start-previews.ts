import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { hasErrorCode } from "@caisson/linux";
import type { AppContext } from "../app/context.ts";
import { explainListening } from "../listen-address.ts";
import { readTls, reloadTls } from "../tls.ts";
import { PreviewAuthority, removeTrust } from "./preview-authority.ts";
import { PreviewServer } from "./preview-server.ts";

/** Listens for requests to previews, with the certificate that the settings name. What it returns ends it, and says at which port that is. */
export async function startPreviews(app: AppContext): Promise<AsyncDisposable & { readonly port: number }> {
  const { expose, dataDirectory } = app.config;
  const directory = join(resolve(dataDirectory), "previews");
  await mkdir(directory, { recursive: true, mode: 0o755 });
  await using undo = new AsyncDisposableStack();
  let port: number;
  if (expose.tls === "local") {
    const authority = await PreviewAuthority.open(directory, expose.domain);
    const server = undo.use(new PreviewServer(app, await authority.issue()));
    undo.defer(authority.renew((certificate) => server.setSecureContext(certificate), app.logger));
    port = await listen(app, server);
  } else {
    await removeTrust(directory);
    const material = expose.tls === "proxy" ? null : await readTls(expose.tls, "expose");
    const server = undo.use(new PreviewServer(app, material));
    if (expose.tls !== "proxy" && material !== null) {
      undo.defer(reloadTls(expose.tls, material, server, app.logger, { section: "expose" }));
    }
    port = await listen(app, server);
  }
  const resources = undo.move();
  return { port, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

async function listen(app: AppContext, server: PreviewServer): Promise<number> {
  const { listenHost: host, listenPort, isPortFree, publicPort } = app.config.expose;
  const port = await server.listen(host, listenPort).catch((error: unknown) => {
    if (isPortFree && hasErrorCode(error, "EADDRINUSE")) return server.listen(host, 0);
    return explainListening(host, listenPort, () => Promise.reject(error), "expose.listen in caisson.toml");
  });
  app.previews.setPublicPort(publicPort ?? port);
  app.logger.info({ host, port, domain: app.config.expose.domain }, "previews are served");
  return port;
}
