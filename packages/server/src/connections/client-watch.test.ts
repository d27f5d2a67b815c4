import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { judgePeer, watchClient } from "./client-watch.ts";

test("a client that has ended its half, or whose machine says nothing for minutes, is not taken for a living one", () => {
  assert.equal(
    judgePeer({ hasEnded: false, silentMs: 130_000 }),
    "alive",
    "a client that reads nothing is probed every 2 minutes",
  );
  assert.equal(judgePeer({ hasEnded: false, silentMs: 400_000 }), "gone");
  assert.equal(judgePeer({ hasEnded: true, silentMs: 0 }), "ended");
});

test("a connection that is not read from closes when the client ends its half", async () => {
  await using server = createServer({ allowHalfOpen: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const client = connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", allowHalfOpen: true });
  const [socket] = await accepted;
  watchClient(socket);
  client.end("what nobody reads");
  await once(socket, "close");
  client.destroy();
});
