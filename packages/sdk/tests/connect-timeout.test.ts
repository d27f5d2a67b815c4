import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { NetworkError, Sandbox } from "../src/index.ts";

test("a create that the server never answers fails after connectTimeoutMs and names that option, however long requests may take", async () => {
  const sockets: Socket[] = [];
  await using server = createServer((socket) => sockets.push(socket));
  await once(server.listen(0, "127.0.0.1"), "listening");
  const apiEndpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const created = Sandbox.create({ token: "ddo_x", apiEndpoint, timeoutMs: 3_600_000, connectTimeoutMs: 50 });
  try {
    await assert.rejects(created, (error) => {
      assert.ok(error instanceof NetworkError);
      assert.match(
        error.message,
        /did not open the connection to the sandbox within 50 ms; the option connectTimeoutMs/,
      );
      return true;
    });
  } finally {
    for (const socket of sockets) socket.destroy();
  }
});
