import { ApiError, ConflictError, ConnectionClosedError, NotFoundError, SandboxKillError } from "../core/errors.ts";
import type { HttpClient, RequestOptions } from "../core/http.ts";
import { path, requireRecord } from "../core/http.ts";
import { parseDurationMs } from "../core/limits.ts";
import { getSandbox } from "./metadata.ts";

/** Ends a sandbox and resolves when its volumes are durable and free. Throws {@linkcode NotFoundError} when it is unknown or gone. */
export async function killSandbox(
  http: HttpClient,
  origin: string,
  id: string,
  options?: RequestOptions,
): Promise<void> {
  try {
    await http.send({ method: "DELETE", origin, path: path`/api/v3/sandbox/${id}`, options });
  } catch (error) {
    if (error instanceof ApiError && !(error instanceof NotFoundError))
      throw new SandboxKillError(error, error.message);
    throw error;
  }
}

/** Asks for more life and returns when the sandbox will end at the earliest. */
export async function extendSandbox(
  http: HttpClient,
  origin: string,
  id: string,
  timeout: string,
  options?: RequestOptions,
): Promise<Date> {
  const body = { stop_at_ms: Date.now() + parseDurationMs(timeout) };
  const response = await http.send({ method: "PATCH", origin, path: path`/api/v3/sandbox/${id}`, body, options });
  return new Date(Number(requireRecord(response.body).stop_at_ms));
}

/** Reserves what an exposure needs; the sandbox is then told to use it (protocol.md 2.5). */
export async function reserveExposure(
  http: HttpClient,
  origin: string,
  id: string,
  kind: "http" | "ssh" | "vscode",
  options?: RequestOptions,
): Promise<Record<string, unknown>> {
  const response = await http.send({
    method: "POST",
    origin,
    path: path`/api/v3/sandbox/${id}/expose/${kind}`,
    body: {},
    options,
  });
  return requireRecord(response.body);
}

/** How long a failed exposure waits for its name to be given back, in milliseconds. */
const REVOKE_MS = 5_000;

/** Gives back a name that could not be bound: it would count as one of the sandbox's until that ends. Where that fails too, it does. */
export async function revokeExposure(http: HttpClient, origin: string, id: string, domain: string): Promise<void> {
  const options = { timeoutMs: REVOKE_MS, maxRetries: 0 };
  const fullPath = path`/api/v3/sandbox/${id}/expose/http/${domain}`;
  await http.send({ method: "DELETE", origin, path: fullPath, options }).catch(() => undefined);
}

/** How long an error waits for what the server says about it, in milliseconds. */
export const EXPLAIN_MS = 5_000;

/** Adds to the error of a connection that broke off when and why its sandbox ended, if it did and the server says so soon. */
export async function explainEnd(
  http: HttpClient,
  origin: string,
  id: string,
  error: ConnectionClosedError,
): Promise<ConnectionClosedError> {
  try {
    const sandbox = await getSandbox(http, origin, id, true, { timeoutMs: EXPLAIN_MS, maxRetries: 0 });
    if (sandbox === null || sandbox.stoppedAt === null) return error;
    const { stoppedAt, stopReason } = sandbox;
    return new ConnectionClosedError(error.code, error.reason, { stoppedAt, stopReason });
  } catch {
    // The server cannot be asked, so the error stays what it is.
    return error;
  }
}

/**
 * Resolves when the sandbox has stopped and released its volumes. One that goes on running, because somebody extended its life, is not
 * waited for. Returns what its end has found wrong with its volumes.
 */
export async function waitUntilStopped(http: HttpClient, origin: string, id: string): Promise<readonly string[]> {
  for (;;) {
    const sandbox = await getSandbox(http, origin, id, true);
    if (sandbox?.status !== "stopping") return sandbox?.damages ?? [];
  }
}

/** The error of an end that has lost something: the same as a kill answers. */
export function dataLost(id: string, damages: readonly string[]): ConflictError {
  const message = `Sandbox ${id} has ended, but not well. ${damages.join(". ")}`;
  return new ConflictError(409, "DATA_LOST", message);
}
