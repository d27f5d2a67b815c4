import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { ClientLeftError, WaitingClient } from "./waiting-client.ts";

test("what a client sends early is kept", async () => {
  const socket = new PassThrough();
  const client = new WaitingClient(socket, Buffer.from("a"));
  socket.write("b");
  await setImmediate();
  assert.equal(String(client.take()), "ab");
});

test("a client whose connection was reset has left, also before the connection is closed", async () => {
  const socket = new PassThrough();
  const client = new WaitingClient(socket, Buffer.alloc(0));
  socket.on("error", () => {});
  socket.destroy(new Error("read ECONNRESET"));
  assert.throws(() => client.take(), ClientLeftError);
  assert.ok(client.signal.aborted);
});
