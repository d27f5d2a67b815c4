import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { after, before, suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { eventually, within } from "./support/eventually.ts";
import { TestServer } from "./support/server.ts";

/** States of /proc/net/tcp. */
const LISTEN = "0A";

/** A client whose upgrade is refused may do what it likes: the server keeps nothing of it. */
suite("a refused upgrade", { timeout: testTimeoutMs(600_000) }, () => {
  let server: TestServer;
  let address: URL;

  before(async () => {
    server = await TestServer.start();
    address = new URL(server.endpoint);
  });
  after(() => server?.[Symbol.asyncDispose]());

  /** Asks for an upgrade, and never ends its half of the connection. Returns it with the answer. */
  async function upgrade(path: string, token: string): Promise<{ socket: Socket; answer: string }> {
    const socket = connect({ host: address.hostname, port: Number(address.port), allowHalfOpen: true });
    socket.on("error", () => {});
    await once(socket, "connect");
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: ${address.host}\r\nAuthorization: Bearer ${token}\r\n` +
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    );
    const [answer] = (await once(socket, "data")) as [Buffer];
    return { socket, answer: String(answer) };
  }

  /** How many connections of clients the server has a descriptor of: one that is closed has no inode. */
  async function heldConnections(): Promise<number> {
    const port = Number(address.port).toString(16).toUpperCase().padStart(4, "0");
    const rows = (await readFile("/proc/net/tcp", "utf8")).split("\n").map((line) => line.trim().split(/\s+/));
    return rows.filter(
      ([, local, , state, , , , , , inode]) => local?.endsWith(`:${port}`) && state !== LISTEN && inode !== "0",
    ).length;
  }

  /** A thousand, each with the byte more that keeps its connection from being idle. */
  async function refuseMany(): Promise<Socket[]> {
    const clients: Socket[] = [];
    for (let count = 0; count < 20; count += 1) {
      const some = await Promise.all(Array.from({ length: 50 }, () => upgrade("/api/v3/sandboxes/create", "wrong")));
      for (const { socket, answer } of some) {
        assert.match(answer, /^HTTP\/1\.1 401 INVALID_TOKEN\r\n/);
        socket.write("x");
        clients.push(socket);
      }
    }
    return clients;
  }

  test("is forgotten by the server although the client sends more and never ends its half, also a thousand times", async () => {
    const clients = await refuseMany();
    await eventually("no connection held", async () => ((await heldConnections()) === 0 ? true : null), 30_000);
    assert.equal((await fetch(new URL("/health", server.endpoint))).status, 200);
    for (const socket of clients) socket.destroy();
  });

  test("at a place that cannot be read is a 404", async () => {
    for (const path of ["/api/v3/sandbox/%zz/connect", "//", "/nowhere"]) {
      const { socket, answer } = await upgrade(path, server.token);
      assert.match(answer, /^HTTP\/1\.1 404 NOT_FOUND\r\n/, path);
      const body = JSON.parse(answer.split("\r\n\r\n")[1] ?? "") as object;
      assert.deepEqual(Object.keys(body), ["code", "message"], path);
      socket.destroy();
    }
  });

  test("does not keep the server from ending, and neither does any other connection", async () => {
    const clients = await refuseMany();
    for (const text of ["", "GET / HT", "POST /api/v2/volumes HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"]) {
      const socket = connect({ host: address.hostname, port: Number(address.port), allowHalfOpen: true });
      socket.on("error", () => {});
      await once(socket, "connect");
      socket.write(text);
      clients.push(socket);
    }
    assert.equal(await within(60_000, "the end of the server", server.stop()), 0);
    for (const socket of clients) socket.destroy();
  });
});
