import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHttpServer, type Server as HttpServer } from "node:http";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { after, before, suite, test } from "node:test";
import { ByteBudget } from "@caisson/linux";
import { testTimeoutMs } from "@caisson/linux/testing";
import { HttpForwarder } from "./http-forwarder.ts";

const BODY_BYTES = 1024 * 1024;
const HEAD = `POST / HTTP/1.1\r\nHost: host.test\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: ${BODY_BYTES}\r\n\r\n`;
const BODY = "placeholder".padEnd(BODY_BYTES, ".");

/** Bodies to hosts of secrets are read whole; clients that send them slowly wait for each other, and not for ever. */
suite("bodies with secrets", { timeout: testTimeoutMs(120_000) }, () => {
  let host: HttpServer;
  let received: string[] = [];

  before(async () => {
    host = createHttpServer(async (request, response) => {
      received.push(await text(request));
      response.end("taken");
    }).listen(0, "127.0.0.1");
    await once(host, "listening");
  });
  after(() => host.close());

  async function serve(budget: ByteBudget, bodyTimeoutMs?: number): Promise<Server> {
    received = [];
    const forwarder = new HttpForwarder(bodyTimeoutMs === undefined ? {} : { bodyTimeoutMs });
    const { port } = host.address() as AddressInfo;
    const server = createServer((client) => {
      client.on("error", () => {});
      forwarder.accept(client, {
        policy: { allow: null, secrets: [] },
        target: { address: "127.0.0.1", port },
        serverName: "host.test",
        secrets: [{ placeholder: "placeholder", value: "value", hosts: ["host.test"] }],
        bodies: [budget],
        connect: () => connect(port, "127.0.0.1"),
      });
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    return server;
  }
  async function open(server: Server): Promise<Socket> {
    const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
    socket.on("error", () => {});
    await once(socket, "connect");
    socket.write(HEAD);
    return socket;
  }

  test("take no more memory than there is for them; the next one goes on when one has ended", async () => {
    await using server = await serve(new ByteBudget(2 * BODY_BYTES));
    const [first, second] = await Promise.all([open(server), open(server)]);
    for (const stalled of [first, second]) stalled.write(BODY.slice(0, -1));
    const third = await open(server);
    third.write(BODY);
    const answered = text(third);
    first.write(".");
    assert.match(await text(first), /taken/);
    assert.match(await answered, /taken/, "what the first gave back is the third's");
    assert.deepEqual(
      received.map((body) => body.slice(0, 6)),
      ["value.", "value."],
    );
    second.destroy();
  });

  test("that do not come in time are answered with 408 and give their memory back", async () => {
    const budget = new ByteBudget(BODY_BYTES);
    await using impatient = await serve(budget, 300);
    const stalled = await open(impatient);
    assert.match(await text(stalled), /^HTTP\/1\.1 408 /);
    await using server = await serve(budget);
    const next = await open(server);
    next.write(BODY);
    assert.match(await text(next), /taken/);
  });
});
