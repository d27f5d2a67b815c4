import type { Configuration } from "./configuration.ts";
import { type ApiError, apiError, NetworkError, RequestTimeoutError } from "./errors.ts";
import { isRetryableStatus, retryDelayMs, sleep } from "./retry.ts";

/** Asks for representations with everything that Caisson knows; servers that do not know the type answer with the common form. */
const ACCEPT = "application/vnd.caisson+json";

/** What every call of a resource accepts as its last argument. */
export interface RequestOptions {
  /** Ends the call; it then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** How long one attempt may take, in milliseconds. Default: the client's `timeoutMs`. */
  timeoutMs?: number | undefined;
  /** How often the call may be repeated. Default: the client's `maxRetries`. */
  maxRetries?: number | undefined;
}

/** {@linkcode RequestOptions} of calls that create something. */
export interface CreateRequestOptions extends RequestOptions {
  /**
   * Names this creation: for 24 hours the server answers a repetition with the same key and content with the same object, so that a
   * program that was interrupted can ask again. Default: a random key per call, which makes the library's own repetitions safe.
   */
  idempotencyKey?: string | undefined;
}

/** {@linkcode RequestOptions} of calls that delete something. */
export interface DeleteOptions extends RequestOptions {
  /**
   * For good: the space is free when the call resolves, and nothing can restore it. Where sandboxes still run from a snapshot, its space is
   * free after the last of them. Default: false, it can be restored for a time.
   */
  now?: boolean | undefined;
}

/** One request. */
export interface HttpRequest {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  /** The path, its variable parts already encoded (see {@linkcode path}). */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: unknown;
  readonly idempotencyKey?: string | undefined;
  /** True when the call may be repeated although it may have taken effect. Default: all but POST without an idempotency key. */
  readonly isRepeatable?: boolean;
  /** The origin. Default: the API's. */
  readonly origin?: string;
  readonly options?: RequestOptions | undefined;
}

/** A request whose body, or whose answer, is a stream. */
export interface StreamRequest {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: ReadableStream<Uint8Array>;
  /** `timeoutMs` is for the beginning of the answer; with a body it has no default. `maxRetries` has no meaning. */
  readonly options?: RequestOptions | undefined;
}

/** A decoded answer. */
export interface HttpResponse {
  readonly status: number;
  readonly headers: Headers;
  /** The JSON body; `undefined` for an empty one. */
  readonly body: unknown;
  /** 1 for the first attempt. */
  readonly attempt: number;
}

/**
 * Writes a path with every inserted value percent-encoded. Values that a URL would still take for something else than a name, nothing at
 * all and dots, are refused: `DELETE /volumes/..` must not become another request.
 */
export function path(strings: TemplateStringsArray, ...values: readonly string[]): string {
  for (const value of values) {
    if (value === "" || value === "." || value === "..") {
      throw new TypeError(`Invalid id or slug ${JSON.stringify(value)}: give the name of one object`);
    }
  }
  return String.raw({ raw: strings }, ...values.map(encodeURIComponent));
}

/** Sends requests to the API with credentials, time limits and repetitions. */
export class HttpClient {
  readonly configuration: Configuration;

  constructor(configuration: Configuration) {
    this.configuration = configuration;
  }

  /** Headers that carry the credentials. */
  credentials(): Record<string, string> {
    const { token, org } = this.configuration;
    return { Authorization: `Bearer ${token}`, ...(org === undefined ? {} : { "X-Deno-Org": org }) };
  }

  /** Sends the request, repeating it when that is safe. Throws {@linkcode ApiError} or {@linkcode NetworkError}. */
  async send(request: HttpRequest): Promise<HttpResponse> {
    const maxRetries = request.options?.maxRetries ?? this.configuration.maxRetries;
    const isRepeatable = request.isRepeatable ?? (request.method !== "POST" || request.idempotencyKey !== undefined);
    for (let attempt = 1; ; attempt += 1) {
      const mayRetry = attempt <= maxRetries;
      let retryAfter: string | null = null;
      try {
        const response = await this.#attempt(request);
        const body = await readBody(response, request);
        if (response.ok) return { status: response.status, headers: response.headers, body: parseBody(body), attempt };
        if (request.method === "DELETE" && response.status === 404 && attempt > 1) {
          // The attempt before this one did delete; only its answer was lost.
          return { status: response.status, headers: response.headers, body: undefined, attempt };
        }
        const error = toApiError(response, body);
        if (!mayRetry || !isRepeatable || !isRetryableStatus(response.status, response.headers)) throw error;
        retryAfter = response.headers.get("retry-after");
      } catch (error) {
        if (!mayRetry || !(error instanceof NetworkError) || !(isRepeatable || wasNeverSent(error))) throw error;
      }
      await sleep(retryDelayMs(attempt, retryAfter), request.options?.signal);
    }
  }

  /** Sends the request once, and resolves with the answer when it begins. Throws as `send` does. */
  async stream(request: StreamRequest): Promise<Response> {
    const { method, body, options } = request;
    const url = this.#url(request);
    const defaultMs = body === undefined ? this.configuration.timeoutMs : undefined;
    const timeoutMs = options?.timeoutMs ?? defaultMs;
    const timeout = new AbortController();
    const timer = timeoutMs === undefined ? undefined : setTimeout(() => timeout.abort(), timeoutMs);
    const signal = options?.signal === undefined ? timeout.signal : AbortSignal.any([options.signal, timeout.signal]);
    const init = { method, headers: { ...this.credentials(), Accept: ACCEPT }, signal };
    let response: Response;
    try {
      response = await fetch(url, body === undefined ? init : { ...init, body, duplex: "half" });
    } catch (error) {
      throw transportError(error, request, url.origin, timeout.signal, timeoutMs ?? 0);
    } finally {
      clearTimeout(timer);
    }
    if (response.ok) return response;
    throw toApiError(response, await readBody(response, request));
  }

  #url(request: Pick<HttpRequest, "path" | "query" | "origin">): URL {
    const url = new URL(request.path, request.origin ?? this.configuration.apiEndpoint);
    for (const [key, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) url.searchParams.set(key, value);
    }
    return url;
  }

  async #attempt(request: HttpRequest): Promise<Response> {
    const url = this.#url(request);
    const headers: Record<string, string> = { ...this.credentials(), Accept: ACCEPT };
    if (request.body !== undefined) headers["Content-Type"] = "application/json";
    if (request.idempotencyKey !== undefined) headers["Idempotency-Key"] = request.idempotencyKey;

    const signal = request.options?.signal;
    const timeoutMs = request.options?.timeoutMs ?? this.configuration.timeoutMs;
    const timeout = AbortSignal.timeout(timeoutMs);
    try {
      return await fetch(url, {
        method: request.method,
        headers,
        signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
        ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
      });
    } catch (error) {
      throw transportError(error, request, url.origin, timeout, timeoutMs);
    }
  }
}

/** The body is read under the same time limit as the head, because the signal given to `fetch` covers both. */
export async function readBody(response: Response, request: Described): Promise<string> {
  try {
    return await response.text();
  } catch (error) {
    if (request.options?.signal?.aborted) throw request.options.signal.reason;
    throw new NetworkError(`Cannot read the answer to ${request.method} ${request.path}: ${describe(error)}`, {
      cause: error,
    });
  }
}

/** What errors tell of a request. */
type Described = Pick<HttpRequest, "path" | "options"> & { readonly method: string };

function transportError(
  error: unknown,
  request: Described,
  origin: string,
  timeout: AbortSignal,
  timeoutMs: number,
): unknown {
  const signal = request.options?.signal;
  if (signal?.aborted) return signal.reason;
  if (timeout.aborted) {
    return new RequestTimeoutError(
      `${request.method} ${request.path} got no answer from ${origin} within ${timeoutMs} ms`,
    );
  }
  return new NetworkError(`Cannot reach ${origin}: ${describe(error)}. Is the server running?`, { cause: error });
}

/** The answer's body as it comes; a connection that breaks before its end is a {@linkcode NetworkError}. */
export function bodyStream(response: Response, request: Described): ReadableStream<Uint8Array> {
  const reader = (response.body ?? new Blob([]).stream()).getReader();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        if (request.options?.signal?.aborted) throw request.options.signal.reason;
        const what = `${request.method} ${request.path}`;
        throw new NetworkError(`The answer to ${what} broke off: ${describe(error)}`, { cause: error });
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

/** `fetch` hides the reason one or two levels down. */
function describe(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message || ("code" in cause ? String(cause.code) : cause.name) : String(cause);
}

/** Refused connections reached nobody, so even a call that must not be repeated may be tried again. */
function wasNeverSent(error: NetworkError): boolean {
  const cause = error.cause instanceof Error ? (error.cause.cause ?? error.cause) : undefined;
  return cause instanceof Error && "code" in cause && cause.code === "ECONNREFUSED";
}

export function parseBody(text: string): unknown {
  if (text === "") return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new NetworkError("The server's answer is not JSON; is this the address of a Caisson server?", {
      cause: error,
    });
  }
}

/** Reads the error document `{ code, message, hint?, request_id? }`. */
export function toApiError(response: Pick<Response, "status" | "headers">, body: string): ApiError {
  const requestId = response.headers.get("x-deno-trace-id") ?? undefined;
  let document: unknown;
  try {
    document = JSON.parse(body);
  } catch {
    const shown = body.trim().slice(0, 200);
    const message = `The server answered ${response.status} without an error document${shown ? `: ${shown}` : ""}`;
    return apiError(response.status, { code: "INVALID_RESPONSE_BODY", message, requestId });
  }
  const fields: Readonly<Record<string, unknown>> = isRecord(document) ? document : {};
  const { code, message, hint, request_id: bodyRequestId } = fields;
  if (typeof code !== "string" || typeof message !== "string") {
    return apiError(response.status, {
      code: "UNKNOWN_ERROR",
      message: `The server answered ${response.status}`,
      requestId,
    });
  }
  return apiError(response.status, {
    code,
    message,
    hint: typeof hint === "string" ? hint : undefined,
    requestId: requestId ?? (typeof bodyRequestId === "string" ? bodyRequestId : undefined),
  });
}

/** True for an object that is neither null nor an array. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Returns the value when it is an object. Anything else is a fault of the server, which is not passed over in silence. */
export function requireRecord(value: unknown): Record<string, unknown> {
  if (isRecord(value)) return value;
  throw new TypeError(`The server sent ${JSON.stringify(value)?.slice(0, 80)} where an object was expected`);
}
