import type { Connection } from "../internal/connection.ts";

/** Options of requests that are sent from inside the sandbox. */
export interface RequestInit {
  /** Default: `GET`. */
  method?: string;
  /** Headers of the request. */
  headers?: ConstructorParameters<typeof Headers>[0];
  /** The body; not for `GET` and `HEAD`. Text is sent as UTF-8, streams must yield `Uint8Array`. */
  body?: ConstructorParameters<typeof Response>[0];
  /** Whether redirects are followed in the sandbox or returned. Default: `"follow"`. */
  redirect?: "follow" | "manual";
  /** Breaks the request off, also while its body arrives. */
  signal?: AbortSignal | null;
}

/** Sends a request from inside the sandbox; with `pid`, to the HTTP server of that Deno process (protocol.md 4.6). */
export async function fetchInside(
  connection: Connection,
  url: string | URL,
  init: RequestInit = {},
  pid?: number,
): Promise<Response> {
  const signal = init.signal ?? undefined;
  signal?.throwIfAborted();
  const { method = "GET", headers, body, redirect = "follow" } = init;
  // The platform's class checks and completes the request: upper-case method, content type of the body, absolute URL.
  const request = new Request(url, {
    method,
    redirect,
    ...(headers === undefined ? {} : { headers }),
    ...(body === undefined || body === null ? {} : { body, duplex: "half" }),
  });
  const abort = connection.registerAbort(signal);
  const send = (bodyStreamId?: number) =>
    connection.call(
      "fetch",
      {
        url: request.url,
        method: request.method,
        headers: [...request.headers],
        redirect,
        bodyStreamId,
        pid,
        ...abort.params,
      },
      { signal },
    );
  try {
    const answer = await (request.body === null ? send() : connection.callWithSource(request.body, send));
    const { status, statusText, bodyStreamId } = answer;
    const stream = bodyStreamId === null ? null : connection.receive(bodyStreamId);
    const breakOff = (): void => stream?.end({ error: signal?.reason });
    signal?.addEventListener("abort", breakOff, { once: true });
    const finish = (): void => {
      signal?.removeEventListener("abort", breakOff);
      abort.end();
    };
    if (stream === null) finish();
    else void stream.done.then(finish);
    return new Response(stream?.readable ?? null, {
      status,
      statusText,
      headers: answer.headers.map(([name, value]) => [name, value]),
    });
  } catch (error) {
    abort.end();
    throw error;
  }
}
