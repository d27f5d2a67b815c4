import { once } from "node:events";
import { createServer } from "node:net";
import { hasErrorCode } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { Config } from "./config.ts";

/** Throws `INVALID_CONFIG` when nobody could listen there, so that a start fails at once and not after everything else is ready. */
export async function requireFreeAddress(host: string, port: number): Promise<void> {
  await explainListening(host, port, async () => {
    const server = createServer();
    server.listen(port, host);
    await once(server, "listening");
    server.close();
    await once(server, "close");
  });
}

/** Runs what listens there, and says in the product's words why that is not possible. */
export async function explainListening<T>(
  host: string,
  port: number,
  listen: () => Promise<T>,
  setting = "--listen HOST:PORT (`listen` in caisson.toml)",
): Promise<T> {
  try {
    return await listen();
  } catch (error) {
    const reason = reasonOf(error, port, setting);
    if (reason === null) throw error;
    throw new CaissonError("INVALID_CONFIG", `Cannot listen on ${printAddress(host, port)}: ${reason}`, {
      cause: error,
    });
  }
}

function reasonOf(error: unknown, port: number, setting: string): string | null {
  const advice = `or choose another address with ${setting}`;
  if (hasErrorCode(error, "EADDRINUSE")) {
    return `another program listens there. See which with: ss -ltnp 'sport = :${port}'. Stop it, ${advice}`;
  }
  if (hasErrorCode(error, "EACCES")) return `that port needs more rights. Run as root, ${advice}`;
  if (hasErrorCode(error, "EADDRNOTAVAIL", "ENOTFOUND", "EAI_AGAIN")) {
    return `this machine has no such address. See them with: ip address. Take one of those, ${advice}`;
  }
  return null;
}

function printAddress(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** What to warn of when tokens, which clients send with every request, would leave this machine in the clear; null when they do not. */
export function clearTextWarning({
  tls,
  publicUrl,
  listenHost,
  listenPort,
}: Pick<Config, "tls" | "publicUrl" | "listenHost" | "listenPort">): string | null {
  if (tls !== null || listenHost === "localhost" || listenHost === "::1" || /^127\./.test(listenHost)) return null;
  const remedy =
    publicUrl?.startsWith("https://") === true
      ? "Let nothing but the TLS proxy in front reach it"
      : "Set tls.cert and tls.key, or listen on 127.0.0.1 behind a TLS proxy";
  return `Tokens travel in the clear to ${listenHost}:${listenPort}, and everyone on the way can use them. ${remedy}`;
}
