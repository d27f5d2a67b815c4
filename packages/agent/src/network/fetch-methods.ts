import { AppError } from "../calls/errors.ts";
import { type Call, type MethodTable, method } from "../calls/method.ts";
import { arrayOf, count, defaulted, oneOf, optional, type ShapeOf, string, type Validator } from "../calls/params.ts";
import { fetchFromProcess } from "./process-fetch.ts";

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

export const fetchMethods = { fetch: method(fetchShape, runFetch) } satisfies MethodTable;

async function runFetch(params: ShapeOf<typeof fetchShape>, call: Call) {
  const { url, bodyStreamId } = params;
  const body = bodyStreamId === undefined ? null : call.takeStream(bodyStreamId);
  const response = await send(params, body, call);
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
async function send(
  { url, method, headers: pairs, redirect, pid }: ShapeOf<typeof fetchShape>,
  body: ReadableStream<Uint8Array<ArrayBuffer>> | null,
  { sandbox, signal }: Call,
): Promise<Response> {
  try {
    const headers = new Headers([...pairs]);
    if (pid === undefined) return await fetch(url, { method, headers, redirect, body, signal });
    const request = { url: new URL(url), method, headers, body };
    return await fetchFromProcess(sandbox.processes.get(pid), request, redirect, signal);
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
