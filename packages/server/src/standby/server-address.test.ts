import assert from "node:assert/strict";
import { hostname } from "node:os";
import { test } from "node:test";
import type { Config } from "../config.ts";
import { serverAddress } from "./server-address.ts";

test("other servers are told where this one listens, or, when that is everywhere, what it is called", () => {
  const addressOf = (listenHost: string, address: string | null) => {
    const config = { listenHost, expose: { listenHost: "10.0.0.1" }, ssh: null, node: { address } };
    return serverAddress(config as unknown as Config, { api: 1, previews: 2, ssh: null });
  };
  const previews = { host: "10.0.0.1", port: 2 };
  for (const [listenHost, address, host] of [
    ["10.0.0.9", "10.0.0.2:8485", "10.0.0.9"],
    ["0.0.0.0", "10.0.0.2:8485", "10.0.0.2"],
    ["::", "[fd00::2]:8485", "fd00::2"],
    ["0.0.0.0", "one.example.com", "one.example.com"],
    ["0.0.0.0", null, hostname()],
  ] as const)
    assert.deepEqual(addressOf(listenHost, address), { api: { host, port: 1 }, previews, ssh: null });
});
