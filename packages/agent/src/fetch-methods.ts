import { abortable } from "./abortable.ts";
import { AppError } from "./errors.ts";
import { HttpServerWatch } from "./http-server-watch.ts";
import { type Call, type MethodTable, method } from "./method.ts";
import { arrayOf, count, defaulted, oneOf, optional, type ShapeOf, string, type Validator } from "./params.ts";
import type { SandboxProcess } from "./process-table.ts";
import type { ListeningAddress } from "./tcp-address.ts";
import { startTimer } from "./timers.ts";

/** How long a request waits for the server of a process that has just been started. */
const SERVER_WAIT_MS = 60_000;

/** Statuses of responses without a body; the JavaScript client cannot build one of them with a body (protocol.md 4.6). */
const NULL_BODY_STATUSES = [204, 205, 304];

const header: Validator<[name: string, value: string]> = (value, path, issues) => {
  const [name = "", text = ""] = arrayOf(string)(value, path, issues);
  return [name, text];
};

const fetchShape = {
  url: string,
  method: string,
  headers: defaulted(arrayOf(header), []),
  redirect: defaulted(oneOf("follow", "manual"), "follow"),
  bodyStreamId: optional(count),
  pid: optional(count),
};

export const fetchMethods: MethodTable = { fetch: method(fetchShape, runFetch) };

async function runFetch({ url, method, headers, redirect, bodyStreamId, pid }: ShapeOf<typeof fetchShape>, call: Call) {
  const body = bodyStreamId === undefined ? null : call.takeStream(bodyStreamId);
  const client = pid === undefined ? undefined : await clientOf(call.sandbox.processes.get(pid), call.signal);
  const init = { method, headers: [...headers], redirect, body, signal: call.signal };
  const response = await send(url, client === undefined ? init : { ...init, client });
  const { status, statusText } = response;
  if (status < 200 || status > 599) {
    await response.body?.cancel();
    throw new AppError(
      "TypeError",
      `Cannot pass on the response of ${url}: its status ${status} is outside 200 to 599`,
    );
  }
  if (NULL_BODY_STATUSES.includes(status)) await response.body?.cancel();
  const source = NULL_BODY_STATUSES.includes(status) ? null : response.body;
  const bodyId = source === null ? null : call.openStream((signal) => chunks(source, signal));
  return { status, statusText, headers: forwardedHeaders(response), bodyStreamId: bodyId };
}

/** A failed fetch is a `TypeError`, as Deno's own is; what happened is in the message. */
async function send(url: string, init: RequestInit & { client?: Deno.HttpClient }): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const cause = error.cause instanceof Error ? `: ${error.cause.message}` : "";
    throw new AppError("TypeError", `${error.message}${cause}`);
  }
}

/** The body is delivered decoded, so what describes its encoded form goes. */
function forwardedHeaders({ headers, body }: Response): [name: string, value: string][] {
  const isDecoded = body !== null && ["gzip", "br"].includes(headers.get("content-encoding") ?? "");
  return [...headers].filter(([name]) => !isDecoded || (name !== "content-encoding" && name !== "content-length"));
}

/** The chunks of a body. When the signal aborts, the body is cancelled, also while a chunk is awaited. */
async function* chunks(body: ReadableStream<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  const cancel = () => void reader.cancel().catch(() => undefined);
  signal.addEventListener("abort", cancel, { once: true });
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    signal.removeEventListener("abort", cancel);
    cancel();
  }
}

interface ProcessClient {
  readonly address: ListeningAddress;
  readonly client: Deno.HttpClient;
}

/** One client for each running process that was fetched from, for its latest address. */
const clients = new Map<number, ProcessClient>();

/** An HTTP client whose requests all go to the server of a process, whatever the host in their URL (protocol.md 4.6). */
async function clientOf(process: SandboxProcess, signal: AbortSignal): Promise<Deno.HttpClient> {
  const address = await addressOf(process, signal);
  const known = clients.get(process.pid);
  if (known !== undefined && JSON.stringify(known.address) === JSON.stringify(address)) return known.client;
  known?.client.close();
  const client = Deno.createHttpClient({ proxy: address });
  clients.set(process.pid, { address, client });
  if (known === undefined) void process.exited.then(() => closeClient(process.pid));
  return client;
}

function closeClient(pid: number): void {
  clients.get(pid)?.client.close();
  clients.delete(pid);
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
    throw new AppError(
      "TimedOut",
      `Cannot fetch from process ${process.pid}: it has not listened within ${SERVER_WAIT_MS / 1000} s`,
    );
  } finally {
    cancel();
  }
  throw new AppError("TypeError", `Cannot fetch from process ${process.pid}: it has no HTTP server`);
}
