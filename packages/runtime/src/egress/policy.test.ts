import assert from "node:assert/strict";
import { test } from "node:test";
import type { EgressPolicy, EgressRule } from "../runtime.ts";
import { allowsName, portsOf, secretsFor } from "./policy.ts";

const rule = (kind: EgressRule["kind"], host: string, port: number | null = null): EgressRule => ({ kind, host, port });
const policy = (...allow: EgressRule[]): EgressPolicy => ({ allow, secrets: [] });

test("a host rule means that name alone, in any case and with or without the last dot", () => {
  const one = policy(rule("host", "example.com", 443));
  assert.ok(allowsName(one, "Example.COM.", 443));
  assert.ok(!allowsName(one, "example.com", 80));
  assert.ok(!allowsName(one, "www.example.com", 443));
  assert.ok(!allowsName(one, "example.com.evil.test", 443));
});

test("a subdomain rule means every name below, not the name itself and not one that only ends alike", () => {
  const below = policy(rule("subdomains", "example.com"));
  assert.ok(allowsName(below, "a.b.example.com", 1));
  assert.ok(!allowsName(below, "example.com", 1));
  assert.ok(!allowsName(below, "notexample.com", 1));
});

test("text that is not a name is below no name, for rules and for secrets", () => {
  const below = policy(rule("subdomains", "example.com"));
  const secrets = { allow: null, secrets: [{ placeholder: "p", value: "v", hosts: ["*.example.com"] }] };
  for (const start of [
    "evil.test:80",
    "evil.test/",
    "evil.test\0",
    "evil.test ",
    "evil.test,",
    "user@",
    "evil.test%00",
    "a..b",
    "-a",
    "a-",
    "",
  ]) {
    assert.ok(!allowsName(below, `${start}.example.com`, 80), JSON.stringify(start));
    assert.deepEqual(secretsFor(secrets, `${start}.example.com`), [], JSON.stringify(start));
  }
  assert.ok(!allowsName(below, `${"a".repeat(64)}.example.com`, 80));
  assert.ok(!allowsName(below, `${"a.".repeat(125)}example.com`, 80));
  assert.ok(!allowsName(below, "a.example.com..", 80));
  for (const name of ["_acme.example.com", "xn--bcher-kva.example.com", "1-2.example.com"])
    assert.ok(allowsName(below, name, 80));
});

test("ports of several rules add up, and a rule without a port opens all", () => {
  const ports = policy(rule("host", "a.test", 80), rule("subdomains", "test", 443), rule("ipv4", "192.0.2.1", 22));
  assert.deepEqual(portsOf(ports, "a.test"), [80, 443]);
  assert.equal(portsOf(policy(rule("host", "a.test", 80), rule("host", "a.test")), "a.test"), "any");
  assert.deepEqual(portsOf(ports, "192.0.2.1"), []);
  assert.equal(portsOf({ allow: null, secrets: [] }, "any.test"), "any");
});

test("a secret goes to its hosts only", () => {
  const secret = { placeholder: "p", value: "v", hosts: ["API.example.com", "*.wide.test"] };
  const secrets = { allow: null, secrets: [secret] };
  assert.deepEqual(secretsFor(secrets, "api.example.com"), [secret]);
  assert.deepEqual(secretsFor(secrets, "x.wide.test."), [secret]);
  for (const name of ["wide.test", "example.com", "api.example.com.evil.test"])
    assert.deepEqual(secretsFor(secrets, name), []);
});
