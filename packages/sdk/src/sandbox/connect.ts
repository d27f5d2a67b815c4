import { ConnectionEstablishmentError, InvalidTokenError, NetworkError } from "../core/errors.ts";
import type { HttpClient } from "../core/http.ts";
import { retryDelayMs, sleep } from "../core/retry.ts";
import { Connection } from "../internal/connection.ts";
import { openSocket, type UpgradeAnswer } from "../internal/socket.ts";

/** What to connect to. */
export interface ConnectTarget {
  readonly origin: string;
  readonly path: string;
  /** The create header; absent when connecting to a sandbox that exists. */
  readonly configHeader?: string;
  readonly signal: AbortSignal | undefined;
}

/** An open connection, the id of the sandbox that it leads to, and what else the server said. */
export interface Connected extends UpgradeAnswer {
  readonly connection: Connection;
  readonly sandboxId: string;
}

/**
 * Opens the connection to a sandbox. Attempts that surely made nothing are repeated: refused connections and answers 503 always, other
 * network failures only when nothing is to be created.
 */
export async function connectSandbox(http: HttpClient, target: ConnectTarget): Promise<Connected> {
  const { maxRetries, connectTimeoutMs: timeoutMs } = http.configuration;
  const headers = {
    ...http.credentials(),
    ...(target.configHeader && { "x-deno-sandbox-config": target.configHeader }),
  };
  const url = new URL(target.path, target.origin);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await openSocket({ url, headers, timeoutMs, signal: target.signal }, (socket, answer) => {
        const connection = new Connection(socket);
        if (answer.sandboxId === null) {
          connection.close().catch(() => undefined);
          throw new NetworkError(
            `${url.origin} accepted the connection without naming the sandbox; is it a Caisson server?`,
          );
        }
        return { ...answer, connection, sandboxId: answer.sandboxId };
      });
    } catch (error) {
      if (attempt > maxRetries || !isWorthRepeating(error, target.configHeader !== undefined))
        throw toTokenError(error);
    }
    await sleep(retryDelayMs(attempt, null), target.signal);
  }
}

function isWorthRepeating(error: unknown, isCreate: boolean): boolean {
  if (error instanceof ConnectionEstablishmentError) return error.status === 503;
  if (!(error instanceof NetworkError)) return false;
  const isRefused = error.cause instanceof Error && "code" in error.cause && error.cause.code === "ECONNREFUSED";
  return isRefused || (!isCreate && error.cause !== undefined);
}

/** The wrong token is the one refusal that has a class of its own, whichever way it is found out. */
function toTokenError(error: unknown): unknown {
  if (!(error instanceof ConnectionEstablishmentError) || error.code !== "INVALID_TOKEN") return error;
  return new InvalidTokenError(error.status, error.code, error.message, error.requestId, error.hint);
}
