import { abortable } from "../calls/abortable.ts";
import { AppError } from "../calls/errors.ts";
import { startTimer } from "../host/timers.ts";
import type { SandboxProcess } from "../processes/process-table.ts";
import { HttpServerWatch } from "./http-server-watch.ts";
import { type RoutedRequest, redirected } from "./redirect.ts";
import type { ListeningAddress } from "./tcp-address.ts";

/** How long a request waits for the server of a process that has just been started. */
const SERVER_WAIT_MS = 60_000;
const MAX_REDIRECTS = 20;

/**
 * Sends a request to the HTTP server of a process. The URL's host does not matter for where it goes, also when the server redirects, but
 * arrives as the `Host` header (protocol.md 4.6).
 */
export async function fetchFromProcess(
  process: SandboxProcess,
  first: RoutedRequest,
  redirect: "follow" | "manual",
  signal: AbortSignal,
): Promise<Response> {
  const address = await addressOf(process, signal);
  let request = first;
  for (let redirects = 0; ; redirects++) {
    const response = await send(process, address, request, signal);
    const next = redirect === "follow" ? redirected(request, response) : null;
    if (next === null) return response;
    await response.body?.cancel();
    if (redirects === MAX_REDIRECTS)
      throw new TypeError(`Cannot fetch ${first.url.href}: more than ${MAX_REDIRECTS} redirects`);
    request = next;
  }
}

function send(
  process: SandboxProcess,
  address: ListeningAddress,
  request: RoutedRequest,
  signal: AbortSignal,
): Promise<Response> {
  const { url, method, body } = request;
  const headers = new Headers(request.headers);
  if (!headers.has("host")) headers.set("host", url.host);
  const init = { method, headers, body, signal, redirect: "manual" as const };
  if (address.transport === "unix") return fetchWith(unixClient(process, address.path), url.href, init);
  const hostname = address.hostname.includes(":") ? `[${address.hostname}]` : address.hostname;
  return fetchWith(tcpClient(), `http://${hostname}:${address.port}${url.pathname}${url.search}`, init);
}

function fetchWith(client: Deno.HttpClient, url: string, init: RequestInit): Promise<Response> {
  const withClient: RequestInit & { client: Deno.HttpClient } = { ...init, client };
  return fetch(url, withClient);
}

let tcp: Deno.HttpClient | undefined;

/** Made on first use, which takes Deno some milliseconds, and kept: it holds no connection for long. */
function tcpClient(): Deno.HttpClient {
  tcp ??= Deno.createHttpClient({ allowHost: true });
  return tcp;
}

interface UnixClient {
  readonly path: string;
  readonly client: Deno.HttpClient;
}

/** One client for each running process whose server is on a Unix socket. */
const unixClients = new Map<number, UnixClient>();

function unixClient(process: SandboxProcess, path: string): Deno.HttpClient {
  const known = unixClients.get(process.pid);
  if (known?.path === path) return known.client;
  known?.client.close();
  const client = Deno.createHttpClient({ proxy: { transport: "unix", path }, allowHost: true });
  unixClients.set(process.pid, { path, client });
  if (known === undefined) {
    void process.exited.then(() => {
      unixClients.get(process.pid)?.client.close();
      unixClients.delete(process.pid);
    });
  }
  return client;
}

async function addressOf(process: SandboxProcess, signal: AbortSignal): Promise<ListeningAddress> {
  const timeout = new AbortController();
  const cancel = startTimer(SERVER_WAIT_MS, () => timeout.abort());
  try {
    const search = HttpServerWatch.of(process).address();
    const address = await abortable(search, AbortSignal.any([signal, timeout.signal]));
    if (address !== undefined) return address;
  } catch (error) {
    if (!timeout.signal.aborted) throw error;
    const waited = `it has not listened within ${SERVER_WAIT_MS / 1000} s`;
    throw new AppError("TimedOut", `Cannot fetch from process ${process.pid}: ${waited}`);
  } finally {
    cancel();
  }
  throw new AppError("TypeError", `Cannot fetch from process ${process.pid}: it has no HTTP server`);
}
