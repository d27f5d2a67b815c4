/** A request with the URL as the client sees it. */
export interface RoutedRequest {
  readonly url: URL;
  readonly method: string;
  readonly headers: Headers;
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>> | null;
}

const REDIRECTS = [301, 302, 303, 307, 308];
/** They describe a body, and go with it. */
const BODY_HEADERS = ["content-encoding", "content-language", "content-length", "content-location", "content-type"];

/**
 * The request that a response asks for next, by the rules of the Fetch standard (HTTP-redirect fetch), or null when it asks for none. Throws
 * a `TypeError` when a body that was streamed would have to be sent again.
 */
export function redirected(request: RoutedRequest, response: Response): RoutedRequest | null {
  const location = response.headers.get("location");
  if (!REDIRECTS.includes(response.status) || location === null) return null;
  const url = new URL(location, request.url);
  const headers = new Headers(request.headers);
  headers.delete("host");
  if (url.host !== request.url.host) headers.delete("authorization");
  if (becomesGet(request.method, response.status)) {
    for (const name of BODY_HEADERS) headers.delete(name);
    return { url, method: "GET", headers, body: null };
  }
  if (request.body !== null)
    throw new TypeError(`Cannot follow the redirect to ${url.href}: the body was streamed and is gone`);
  return { url, method: request.method, headers, body: null };
}

function becomesGet(method: string, status: number): boolean {
  if (status === 303) return method !== "GET" && method !== "HEAD";
  return (status === 301 || status === 302) && method === "POST";
}
