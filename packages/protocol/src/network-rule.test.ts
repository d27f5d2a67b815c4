import assert from "node:assert/strict";
import { test } from "node:test";
import { parseNetworkRule } from "./network-rule.ts";

test("every form of destination is understood, with and without a port", () => {
  assert.deepEqual(parseNetworkRule("Example.COM"), { kind: "host", host: "example.com", port: null });
  assert.deepEqual(parseNetworkRule("localhost:1"), { kind: "host", host: "localhost", port: 1 });
  assert.deepEqual(parseNetworkRule("*.example.com:65535"), { kind: "subdomains", host: "example.com", port: 65_535 });
  assert.deepEqual(parseNetworkRule("10.0.0.1:80"), { kind: "ipv4", host: "10.0.0.1", port: 80 });
  assert.deepEqual(parseNetworkRule("[2001:db8::1]"), { kind: "ipv6", host: "2001:db8::1", port: null });
  assert.deepEqual(parseNetworkRule("[::1]:443"), { kind: "ipv6", host: "::1", port: 443 });
});

test("anything else is refused", () => {
  const mistakes = [
    "",
    "*",
    "*.",
    "a..b",
    "-a.com",
    "a-.com",
    "a b",
    "1.2.3.4.5",
    "1.2.3.256",
    "2001:db8::1",
    "[::1",
    "[::1%eth0]",
  ];
  const ports = [
    "a:0",
    "a:65536",
    "a:",
    "a:x",
    "a:1:2",
    "[]:1",
    "https://a.com",
    "a.com/path",
    "10.0.0.0/8",
    "a.*.com",
  ];
  for (const text of [...mistakes, ...ports, `${"a".repeat(64)}.com`, `${"a.".repeat(127)}com`]) {
    assert.throws(() => parseNetworkRule(text), { code: "INVALID_CONFIG" }, text);
  }
});
