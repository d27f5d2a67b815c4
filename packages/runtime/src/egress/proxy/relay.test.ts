import assert from "node:assert/strict";
import { once } from "node:events";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { relay } from "./relay.ts";

test("a side that broke before the relay began ends the other", async () => {
  const [client, server] = [new PassThrough(), new PassThrough()];
  server.destroy();
  await once(server, "close");
  relay(client, server);
  assert.equal(client.destroyed, true);
});
