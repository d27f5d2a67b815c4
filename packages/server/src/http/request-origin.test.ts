import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { BlockList } from "node:net";
import { test } from "node:test";
import { originOfRequest, requireHost } from "./request-origin.ts";

const request = (headers: readonly (readonly [string, string])[], values: object = {}): IncomingMessage =>
  ({
    rawHeaders: headers.flat(),
    headers: Object.fromEntries(headers.map(([name, value]) => [name.toLowerCase(), value])),
    httpVersionMajor: 1,
    httpVersionMinor: 1,
    socket: { remoteAddress: "192.0.2.7", remoteFamily: "IPv4", localAddress: "::1", localPort: 8484 },
    ...values,
  }) as unknown as IncomingMessage;

test("a host is a name or an address, with a port or without", () => {
  for (const host of [
    "a",
    "A.example.com.",
    "my_service:80",
    "127.0.0.1:8484",
    "[::1]:8484",
    "[::ffff:1.2.3.4]",
    "ord.x:65535",
  ])
    requireHost(request([["host", host]]));
  for (const host of [
    "",
    "[",
    "a b",
    "a:65536",
    "a:",
    "a/b",
    "a?b",
    "u@a",
    "a,b",
    "ä",
    "[::g]",
    "[1]",
    ".a",
    "-",
    "http://a",
    "a..",
    "a\t",
  ])
    assert.throws(() => requireHost(request([["Host", host]])), { code: "INVALID_REQUEST" }, JSON.stringify(host));
});

test("a request names its host once; only HTTP/1.0 may leave it out", () => {
  assert.throws(() => requireHost(request([])), { message: /one Host header.*none/ });
  assert.throws(
    () =>
      requireHost(
        request([
          ["Host", "a"],
          ["host", "a"],
        ]),
      ),
    { message: /has 2/ },
  );
  const old = request([], { httpVersionMinor: 0 });
  requireHost(old);
  assert.deepEqual(originOfRequest(old, new BlockList()), { protocol: "http", host: "[::1]:8484" });
});

test("only a proxy that is named is believed about where the client sent its request", () => {
  const forwarded = request([
    ["Host", "inner:80"],
    ["X-Forwarded-Host", "evil.test, outer.test"],
    ["X-Forwarded-Proto", "https"],
  ]);
  const proxies = new BlockList();
  assert.deepEqual(originOfRequest(forwarded, proxies), { protocol: "http", host: "inner:80" });
  proxies.addSubnet("192.0.2.0", 24, "ipv4");
  assert.deepEqual(originOfRequest(forwarded, proxies), { protocol: "https", host: "outer.test" });
  const mapped = { remoteAddress: "::ffff:192.0.2.7", remoteFamily: "IPv6" };
  assert.equal(originOfRequest(request([["X-Forwarded-Host", "a"]], { socket: mapped }), proxies).host, "a");
  assert.throws(() => originOfRequest(request([["X-Forwarded-Host", "a b"]]), proxies), {
    message: /X-Forwarded-Host/,
  });
});
