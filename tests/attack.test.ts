import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { after, afterEach, before, suite, type TestContext, test } from "node:test";
import { eventually, within } from "./support/eventually.ts";
import { anonymousBytes, Peak, serverPid } from "./support/memory.ts";
import { TestServer } from "./support/server.ts";

const MIB = 2 ** 20;
/** Beside the 64 MiB that all connections may keep: what the parser and the garbage collector have not given back yet. */
const GROWTH_MAX = 256 * MIB;

/** What clients without a token can do to the server: little. The parts are proven in packages/linux/src/connections. */
suite("clients without a token", { timeout: 600_000 }, () => {
  let server: TestServer;
  let pid: number;
  let clients: Socket[] = [];

  before(async () => {
    server = await TestServer.start();
    pid = await serverPid(server);
  });
  after(() => server?.[Symbol.asyncDispose]());
  afterEach(() => {
    for (const client of clients) client.destroy();
    clients = [];
  });

  async function open(count: number): Promise<Socket[]> {
    const { hostname, port } = new URL(server.endpoint);
    const opened = await Promise.all(
      Array.from({ length: count }, async () => {
        const socket = connect({ host: hostname, port: Number(port) });
        socket.pause().on("error", () => {});
        await once(socket, "connect");
        return socket;
      }),
    );
    clients.push(...opened);
    return opened;
  }
  /** Runs the attack; the server answers others meanwhile, and does not grow. */
  async function assertUnharmed(context: TestContext, attack: () => Promise<void>): Promise<void> {
    const before = await anonymousBytes(pid);
    await using peak = new Peak(() => anonymousBytes(pid));
    await attack();
    for (let count = 0; count < 5; count += 1) {
      const health = await within(20_000, "an answer to somebody else", fetch(new URL("/health", server.endpoint)));
      assert.equal(health.status, 200);
    }
    const grownMib = Math.round((peak.value - before) / MIB);
    context.diagnostic(`the server grew by ${grownMib} MiB`);
    assert.ok(grownMib * MIB < GROWTH_MAX, `the server grew by ${grownMib} MiB`);
  }

  test("that send 400 requests for the largest public answer at once, 100 of them, and read none", (context) =>
    assertUnharmed(context, async () => {
      for (const client of await open(100)) client.write("GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(400));
    }));

  test("that send 10 such requests at once and read none, 500 of them", (context) =>
    assertUnharmed(context, async () => {
      for (const client of await open(500)) client.write("GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(10));
    }));

  test("that send almost all of the longest headers and stop, 500 of them", (context) =>
    assertUnharmed(context, async () => {
      const head = `GET / HTTP/1.1\r\nHost: a\r\nX-Long: ${"x".repeat(1.9 * MIB)}`;
      for (const client of await open(500)) client.resume().write(head);
      // Some have sent what they want; the others wait, and time ends them all.
      await eventually("the first that is cut off", () => clients.some((client) => client.destroyed) || null, 60_000);
    }));

  test("get a 401 at once, and must end a body that nobody wants within seconds", async () => {
    const [client] = await open(1);
    client?.write(
      "POST /api/v2/volumes HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
    );
    const closed = once(client as Socket, "close");
    let text = "";
    client?.on("data", (chunk) => {
      text += String(chunk);
    });
    client?.resume();
    await within(60_000, "the end of the connection", closed);
    assert.match(text, /^HTTP\/1\.1 401 /);
  });
});
