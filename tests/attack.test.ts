import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { after, afterEach, before, suite, type TestContext, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { closed } from "./support/closed.ts";
import { eventually, within } from "./support/eventually.ts";
import { anonymousBytes, Peak, serverPid } from "./support/memory.ts";
import { TestServer } from "./support/server.ts";

const MIB = 2 ** 20;
/** Beside the 64 MiB that all connections may keep: what the parser and the garbage collector have not given back yet. */
const GROWTH_MAX = 400 * MIB;

/** What clients without a token can do to the server: little. The parts are proven in packages/linux/src/connections. */
suite("clients without a token", { timeout: testTimeoutMs(600_000) }, () => {
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
  /** The answer to a request of which this is all but the end. */
  async function ask(request: string): Promise<{ readonly answer: string; readonly body: object }> {
    const [client] = (await open(1)) as [Socket];
    client.write(`${request}Accept: */*\r\n\r\n`);
    let answer = "";
    const isWhole = () => {
      const [headers = "", body] = answer.split("\r\n\r\n");
      return body !== undefined && Buffer.byteLength(body) >= Number(/content-length: (\d+)/i.exec(headers)?.[1] ?? 0);
    };
    client.on("data", (chunk) => {
      answer += String(chunk);
    });
    client.resume();
    await eventually("the answer", () => isWhole() || null, 30_000);
    return { answer, body: JSON.parse(answer.split("\r\n\r\n")[1] || "{}") };
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

  for (const [what, request, status] of [
    ["no host", "GET /health HTTP/1.1\r\n", 400],
    ["two hosts", "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400],
    ["a path that cannot be decoded", "GET /api/v2/volumes/%zz HTTP/1.1\r\nHost: a\r\n", 400],
    ["an id without an end", `GET /api/v2/volumes/${"a".repeat(1000)} HTTP/1.1\r\nHost: a\r\n`, 414],
    ["headers without an end", `GET / HTTP/1.1\r\nHost: a\r\nX: ${"a".repeat(2.1 * MIB)}\r\n`, 431],
    ["an unknown method", "FOO / HTTP/1.1\r\nHost: a\r\n", 400],
    ["an upgrade to nowhere", "GET // HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", 401],
  ] as const) {
    test(`that send ${what} get ${status}, with a code and a message`, async () => {
      const { answer, body } = await ask(request);
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `));
      assert.deepEqual(Object.keys(body), ["code", "message"]);
    });
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

  test("with a token may ask nonsense of lists and get 4xx", async () => {
    for (const slug of ["first", "second"])
      assert.ok(
        (await server.request("/api/v2/volumes", { method: "POST", json: { slug, region: "ord", capacity: "300MB" } }))
          .ok,
      );
    const filters = Array.from({ length: 1001 }, (_, index) => `labels[k${index}]=v`).join("&");
    const beyondUnicode = encodeURIComponent("{'k': '\\U00110000'}");
    for (const [query, host, code] of [
      ["limit=1", "[", "INVALID_REQUEST"],
      ["limit=1", "a b", "INVALID_REQUEST"],
      ["limit=1", "", "INVALID_REQUEST"],
      ["limit=1", "a:99999", "INVALID_REQUEST"],
      [filters, "a", "INVALID_LABELS"],
      [`labels=${beyondUnicode}`, "a", "INVALID_LABELS"],
    ] as const) {
      const { answer, body } = await ask(
        `GET /api/v2/volumes?${query} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${server.token}\r\n`,
      );
      assert.match(answer, /^HTTP\/1\.1 400 /, query.slice(0, 40));
      assert.equal((body as { code?: string }).code, code, `${query.slice(0, 40)} of ${host}`);
    }
    assert.doesNotMatch(server.logText(), /"level":50/, "nothing of this is the server's fault");
  });

  test("with a token are answered over HTTP/1.1 when they offer HTTP/2, as curl --http2 does", async () => {
    const offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n";
    const { answer } = await ask(
      `GET /api/v2/volumes?search=none HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${server.token}\r\n${offer}`,
    );
    assert.match(answer, /^HTTP\/1\.1 200 [\s\S]*\r\n\r\n\[\]$/);
  });

  test("get a 401 at once, and must end a body that nobody wants within seconds", async () => {
    const [client] = await open(1);
    client?.write(
      "POST /api/v2/volumes HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
    );
    const end = closed(client as Socket);
    let text = "";
    client?.on("data", (chunk) => {
      text += String(chunk);
    });
    client?.resume();
    await within(60_000, "the end of the connection", end);
    assert.match(text, /^HTTP\/1\.1 401 /);
  });
});
