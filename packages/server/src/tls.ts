import { readFile } from "node:fs/promises";
import { createSecureContext, type Server } from "node:tls";
import { CaissonError } from "@caisson/model";
import type { Logger } from "pino";
import type { TlsConfig } from "./config.ts";

const RELOAD_INTERVAL_MS = 60_000;

export interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
}

/** Reads the certificate and its key, which a section of the settings names. Throws `INVALID_CONFIG` that says which file does not fit. */
export async function readTls({ certPath, keyPath }: TlsConfig, section = "tls"): Promise<TlsMaterial> {
  const [cert, key] = await Promise.all([readPem(`${section}.cert`, certPath), readPem(`${section}.key`, keyPath)]);
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    throw new CaissonError(
      "INVALID_CONFIG",
      `Cannot serve TLS with the certificate ${certPath} and the key ${keyPath}: ${String(error)}. Both must be in PEM form and belong together`,
      { cause: error },
    );
  }
  return { cert, key };
}

/** Uses a certificate that was renewed for new connections, at most a minute later: nobody has to start the server again. Returns what ends it. */
export function reloadTls(
  config: TlsConfig,
  first: TlsMaterial,
  server: Pick<Server, "setSecureContext">,
  logger: Logger,
  { section = "tls", intervalMs = RELOAD_INTERVAL_MS } = {},
): () => void {
  let current = first;
  const reload = async (): Promise<void> => {
    const next = await readTls(config, section);
    if (next.cert === current.cert && next.key === current.key) return;
    server.setSecureContext(next);
    current = next;
    logger.info({ cert: config.certPath }, "the renewed certificate is in use");
  };
  const timer = setInterval(
    () => void reload().catch((error: unknown) => logger.error({ err: error }, "the certificate in use stays")),
    intervalMs,
  );
  return () => clearInterval(timer);
}

async function readPem(setting: string, path: string): Promise<string> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw new CaissonError("INVALID_CONFIG", `Cannot read ${path} (${setting}): ${String(error)}`, { cause: error });
  });
  // An empty one would be served as none: it may just be being written.
  if (text.includes("-----BEGIN ") && text.trimEnd().endsWith("-----")) return text;
  throw new CaissonError("INVALID_CONFIG", `Cannot use ${path} (${setting}): it is not in PEM form, or not whole`);
}
