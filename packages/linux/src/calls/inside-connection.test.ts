import assert from "node:assert/strict";
import { once } from "node:events";
import { open } from "node:fs/promises";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { suite, test } from "node:test";
import { descriptorOf } from "../connections/socket-descriptor.ts";
import { callSync } from "./ffi.ts";
import { connectInside } from "./inside-connection.ts";

const SOL_TCP = 6;
const TCP_NODELAY = 1;

/** A namespace of its own is what the runtime's suites have; this one's network stands for it. */
suite("a connection within a network namespace", () => {
  test("bytes pass both ways, and small ones do not wait for each other", async () => {
    await using namespace = await open("/proc/thread-self/ns/net");
    const server = createServer((socket) => socket.pipe(socket)).listen(0, "127.0.0.1");
    await once(server, "listening");
    const socket = await connectInside(namespace, "127.0.0.1", (server.address() as AddressInfo).port);
    socket.write("there and back");
    assert.equal(String((await once(socket, "data"))[0]), "there and back");
    assert.equal(isWithoutDelay(socket), true);
    socket.end();
    await once(socket, "close");
    server.close();
    await once(server, "close");
  });

  test("where nobody listens it is refused", async () => {
    await using namespace = await open("/proc/thread-self/ns/net");
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, "close");
    await assert.rejects(connectInside(namespace, "127.0.0.1", port), { code: "ECONNREFUSED" });
  });
});

function isWithoutDelay(socket: Socket): boolean {
  const descriptor = descriptorOf(socket);
  assert.ok(descriptor !== null);
  const value = Buffer.alloc(4);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(value.length);
  callSync("getsockopt", [descriptor.fd, SOL_TCP, TCP_NODELAY, value, length], {
    name: "getsockopt",
    detail: "TCP_NODELAY",
  });
  return value.readInt32LE(0) !== 0;
}
