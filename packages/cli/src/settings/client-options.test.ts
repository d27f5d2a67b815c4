import assert from "node:assert/strict";
import { test } from "node:test";
import { resolveClientSettings } from "./client-options.ts";
import type { ConfigFile } from "./config-file.ts";

const CONFIG: ConfigFile = {
  current: "one",
  profiles: {
    one: { endpoint: "http://one", token: "ddo_one", org: "blue" },
    two: { endpoint: "http://two", token: "ddo_two", org: "blue" },
    green: { endpoint: "http://one", token: "ddo_green", org: "green" },
  },
};
const EMPTY: ConfigFile = { current: null, profiles: {} };

test("flags win over the environment, and that over the file", () => {
  const environment = { CAISSON_TOKEN: "ddo_env", DENO_DEPLOY_TOKEN: "ddo_deno", CAISSON_ORG: "env" };
  const flags = { token: "ddo_flag", org: "flag", endpoint: "http://flag" };
  assert.deepEqual(resolveClientSettings(flags, environment, CONFIG), {
    endpoint: "http://flag",
    org: "flag",
    options: { apiEndpoint: "http://flag", sandboxEndpoint: "http://flag", token: "ddo_flag", org: "flag" },
  });
  const { options } = resolveClientSettings({}, environment, CONFIG);
  assert.deepEqual([options.token, options.org, options.apiEndpoint], ["ddo_env", "env", "http://one"]);
});

test("without anything the server on this machine is meant, and there is no token", () => {
  const { endpoint, options } = resolveClientSettings({}, {}, EMPTY);
  assert.equal(endpoint, "http://127.0.0.1:8484");
  assert.equal(options.token, undefined);
});

test("a saved token is used for its own endpoint only", () => {
  assert.equal(resolveClientSettings({}, {}, CONFIG).options.token, "ddo_one");
  assert.equal(resolveClientSettings({ endpoint: "http://two" }, {}, CONFIG).options.token, "ddo_two");
  assert.equal(resolveClientSettings({ endpoint: "http://other" }, {}, CONFIG).options.token, undefined);
  assert.equal(resolveClientSettings({}, { DENO_DEPLOY_ENDPOINT: "http://other" }, CONFIG).options.token, undefined);
});

test("the saved token of the named organization is used, and no other", () => {
  assert.equal(resolveClientSettings({ org: "green" }, {}, CONFIG).options.token, "ddo_green");
  assert.equal(resolveClientSettings({ org: "red" }, {}, CONFIG).options.token, undefined);
});

test("an endpoint of the environment leaves the origin of sandboxes to the environment", () => {
  const { options } = resolveClientSettings({}, { CAISSON_ENDPOINT: "http://one" }, CONFIG);
  assert.deepEqual([options.apiEndpoint, options.sandboxEndpoint], [undefined, undefined]);
});
