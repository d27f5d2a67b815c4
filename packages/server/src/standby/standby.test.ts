import assert from "node:assert/strict";
import { hostname } from "node:os";
import { test } from "node:test";
import type { Leader } from "@caisson/database";
import pino from "pino";
import type { Config } from "../config.ts";
import { Standby } from "./standby.ts";

test("a server that listens where only its own machine reaches it is not relayed to from another one, which is logged", async () => {
  const logged: Record<string, unknown>[] = [];
  const logger = pino({ level: "error" }, { write: (line: string) => void logged.push(JSON.parse(line)) });
  const anywhere = { listenHost: "127.0.0.1", listenPort: 0 };
  const config = { ...anywhere, expose: { ...anywhere, isPortFree: false }, ssh: null } as unknown as Config;
  using standby = new Standby(config, logger, () => {});
  const leader: Leader = {
    ...{ installationId: "one", dataDirectory: "/data", isShared: true, leaseLeftMs: 1 },
    host: "elsewhere.example.com",
    address: { api: { host: "10.0.0.1", port: 1 }, previews: { host: "127.0.0.1", port: 2 }, ssh: null },
  };
  await standby.onLeader({ ...leader, host: hostname() });
  assert.equal(logged.length, 0);
  await standby.onLeader(leader);
  assert.deepEqual(
    logged.map(({ kind }) => kind),
    ["previews"],
  );
  assert.match(String(logged[0]?.msg), /on elsewhere.example.com, which listens at 127.0.0.1: .*expose.listen/);
});
