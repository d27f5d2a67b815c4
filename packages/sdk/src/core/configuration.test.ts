import assert from "node:assert/strict";
import { test } from "node:test";
import { resolveConfiguration } from "./configuration.ts";

const token = "ddo_x";

test("the options win over CAISSON_ variables, and those over the official client's", () => {
  const environment = { CAISSON_TOKEN: "ddo_ours", DENO_DEPLOY_TOKEN: "ddo_theirs", DENO_DEPLOY_ORG: "acme" };
  assert.equal(resolveConfiguration({ token }, environment).token, token);
  assert.equal(resolveConfiguration({}, environment).token, "ddo_ours");
  assert.equal(resolveConfiguration({}, { DENO_DEPLOY_TOKEN: "ddo_theirs" }).token, "ddo_theirs");
  assert.equal(resolveConfiguration({}, environment).org, "acme");
  assert.equal(resolveConfiguration({ org: "other" }, environment).org, "other");
});

test("without a token, or without an organization for a personal one, nothing is sent", () => {
  assert.throws(() => resolveConfiguration({}, {}), { name: "MissingTokenError" });
  assert.throws(() => resolveConfiguration({}, { DENO_DEPLOY_TOKEN: "" }), { name: "MissingTokenError" });
  assert.throws(() => resolveConfiguration({ token: "ddp_x" }, {}), { name: "MissingOrgError" });
  assert.equal(resolveConfiguration({ token: "ddp_x", org: "acme" }, {}).org, "acme");
});

test("a server on this machine is the default for both origins", () => {
  const configuration = resolveConfiguration({ token }, {});
  assert.equal(configuration.apiEndpoint, "http://127.0.0.1:8484");
  assert.equal(configuration.sandboxEndpoint("ord"), "http://127.0.0.1:8484");
});

test("the origin for sandboxes is found as the official client finds it", () => {
  const origin = (options: object, environment: Record<string, string>, region = "ams") =>
    resolveConfiguration({ token, ...options }, environment).sandboxEndpoint(region);
  assert.equal(origin({ sandboxEndpoint: "http://a" }, { DENO_SANDBOX_ENDPOINT: "http://b" }), "http://a");
  assert.equal(origin({ sandboxEndpoint: (region: string) => `http://${region}.a` }, {}), "http://ams.a");
  assert.equal(origin({}, { DENO_SANDBOX_ENDPOINT: "http://b", DENO_SANDBOX_BASE_DOMAIN: "c" }), "http://b");
  assert.equal(origin({}, { DENO_SANDBOX_BASE_DOMAIN: "c.example" }), "https://ams.c.example");
});

test("CAISSON_ENDPOINT stands for both origins, unless an origin is given as an option", () => {
  const environment = { CAISSON_ENDPOINT: "http://ours", DENO_SANDBOX_ENDPOINT: "http://theirs" };
  assert.equal(resolveConfiguration({ token }, environment).sandboxEndpoint("ord"), "http://ours");
  const elsewhere = resolveConfiguration({ token, apiEndpoint: "http://b" }, { CAISSON_ENDPOINT: "http://ours" });
  assert.equal(elsewhere.sandboxEndpoint("ord"), "http://b");
});

test("an endpoint with a trailing slash, a path or another protocol is refused", () => {
  for (const endpoint of ["http://a/", "http://a/path", "ftp://a", "a", "http://a?x=1"]) {
    assert.throws(
      () => resolveConfiguration({ token, apiEndpoint: endpoint }, {}),
      { name: "InvalidApiEndpoint" },
      endpoint,
    );
    const configuration = resolveConfiguration({ token, sandboxEndpoint: endpoint }, {});
    assert.throws(() => configuration.sandboxEndpoint("ord"), { name: "InvalidSandboxEndpoint" }, endpoint);
  }
});
