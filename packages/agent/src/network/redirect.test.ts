import assert from "node:assert/strict";
import { test } from "node:test";
import { type RoutedRequest, redirected } from "./redirect.ts";

function request(method: string, body = false): RoutedRequest {
  const headers = new Headers({
    authorization: "secret",
    "content-type": "text/plain",
    host: "a.example",
    "x-kept": "1",
  });
  return { url: new URL("http://a.example/dir/page?query"), method, headers, body: body ? new ReadableStream() : null };
}

function response(status: number, location?: string): Response {
  return new Response(null, { status, headers: location === undefined ? {} : { location } });
}

test("a redirect is resolved against the URL of the request", () => {
  assert.equal(redirected(request("GET"), response(302, "other"))?.url.href, "http://a.example/dir/other");
  assert.equal(redirected(request("GET"), response(302, "//b.example/x"))?.url.href, "http://b.example/x");
  assert.equal(redirected(request("GET"), response(302)), null);
  assert.equal(redirected(request("GET"), response(200, "other")), null);
  assert.equal(redirected(request("GET"), response(304, "other")), null);
});

test("the method becomes GET, and the body's headers go, where the Fetch standard says so", () => {
  const cases: readonly (readonly [method: string, status: number, next: string])[] = [
    ["POST", 301, "GET"],
    ["POST", 302, "GET"],
    ["PUT", 302, "PUT"],
    ["PUT", 303, "GET"],
    ["HEAD", 303, "HEAD"],
    ["POST", 307, "POST"],
    ["POST", 308, "POST"],
  ];
  for (const [method, status, next] of cases) {
    const followed = redirected(request(method), response(status, "/x"));
    assert.equal(followed?.method, next, `${method} ${status}`);
    assert.equal(followed?.headers.has("content-type"), method === next, `${method} ${status}`);
    assert.equal(followed?.headers.get("x-kept"), "1");
    assert.equal(followed?.headers.has("host"), false);
  }
});

test("a secret stays with its host, and a streamed body cannot be sent again", () => {
  assert.equal(redirected(request("GET"), response(302, "/x"))?.headers.has("authorization"), true);
  assert.equal(redirected(request("GET"), response(302, "http://b.example/"))?.headers.has("authorization"), false);
  assert.throws(() => redirected(request("POST", true), response(307, "/x")), TypeError);
  assert.equal(redirected(request("POST", true), response(302, "/x"))?.body, null);
});
