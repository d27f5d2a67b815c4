import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { suite, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { testTimeoutMs } from "@caisson/linux/testing";
import { HttpGuard, type HttpLimits, passBodyOn } from "./http-guard.ts";

const LARGE = Buffer.alloc(4 * 2 ** 20, "x");
const NO_LIMITS: HttpLimits = {
  connectionsMax: 1000,
  waitingRequestsMax: 16,
  headersMs: 300_000,
  bodyMs: 300_000,
  restMs: 300_000,
  answerMs: 300_000,
  idleMs: 300_000,
  bufferedBytesMax: 2 ** 30,
};
const GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";

/** What the server does with a connection that does this, under limits of which one is small. */
suite("a guarded server", { timeout: testTimeoutMs(120_000) }, () => {
  async function serve(
    limits: Partial<HttpLimits>,
    handle: RequestListener = (_request, response) => response.end("answer"),
  ): Promise<Server> {
    const server = createServer({ maxHeaderSize: 2 ** 20 });
    new HttpGuard({ ...NO_LIMITS, ...limits }, handle, (refusal, socket) => {
      socket.end(`HTTP/1.1 408 ${refusal}\r\nConnection: close\r\n\r\n`);
    }).attach(server);
    server.on("clientError", (_error, socket) => socket.destroy());
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return server;
  }
  async function open(server: Server, { isReading = true } = {}): Promise<Socket> {
    const socket = connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1" });
    socket.on("error", () => {});
    if (!isReading) socket.pause();
    await once(socket, "connect");
    return socket;
  }
  /** Everything that comes until the connection closes. */
  async function rest(socket: Socket): Promise<string> {
    let text = "";
    socket.on("data", (chunk) => {
      text += String(chunk);
    });
    await new Promise<void>((resolve) => socket.once("close", () => resolve()));
    return text;
  }

  test("answers requests that were sent together one after the other, each when the one before it is taken", async () => {
    let running = 0;
    let most = 0;
    await using server = await serve({}, (request, response) => {
      running += 1;
      most = Math.max(most, running);
      queueMicrotask(() => response.end(request.url));
      response.once("finish", () => {
        running -= 1;
      });
    });
    const client = await open(server);
    client.write(["/1", "/2", "/3"].map((path) => GET.replace("/", path)).join(""));
    client.write(GET.replace("/", "/4").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    const bodies = [...(await rest(client)).matchAll(/\r\n\r\n(\/\d)/g)].map(([, path]) => path);
    assert.deepEqual(bodies, ["/1", "/2", "/3", "/4"]);
    assert.equal(most, 1);
  });

  test("cuts a client off that sends more requests than may wait, and runs only the first", async () => {
    let count = 0;
    await using server = await serve({ waitingRequestsMax: 3 }, () => {
      count += 1;
    });
    const client = await open(server);
    client.write(GET.repeat(400));
    assert.equal(await rest(client), "");
    assert.equal(count, 1);
  });

  test("keeps one answer of a client that does not read, and cuts it off after its time", async () => {
    let count = 0;
    await using server = await serve({ answerMs: 300 }, (_request, response) => {
      count += 1;
      response.end(LARGE);
    });
    const client = await open(server, { isReading: false });
    client.write(GET.repeat(10));
    const [accepted] = (await once(server, "request")) as [{ socket: Socket }];
    await once(accepted.socket, "close");
    assert.equal(count, 1);
    client.destroy();
  });

  for (const [what, limits, sent, answer] of [
    ["headers", { headersMs: 300 }, "GET / HTTP/1.1\r\nHost: a", "HTTP/1.1 408 late-headers"],
    ["a body that somebody waits for", { bodyMs: 300 }, `${POST}12345`, "HTTP/1.1 408 late-body"],
    ["the rest of a body that nobody wants", { restMs: 300 }, `${POST.replace("/", "/unread")}12345`, "HTTP/1.1 401"],
    ["a first request", { idleMs: 300 }, "", ""],
    ["another request", { idleMs: 2_000 }, GET, "HTTP/1.1 200"],
  ] as const) {
    test(`waits for ${what} for its time only, however the client trickles`, async (t) => {
      await using server = await serve(limits, (request, response) => {
        if (request.url === "/unread") response.writeHead(401).end();
        else request.resume().once("end", () => response.end());
      });
      const client = await open(server);
      client.write(sent);
      const trickle = setInterval(() => what.startsWith("head") && client.write("a"), 20);
      t.after(() => clearInterval(trickle));
      const text = await rest(client);
      assert.equal(text.slice(0, answer.length), answer);
      assert.equal(text === "", answer === "");
    });
  }

  test("does not take long headers in thousands of tiny pieces", async () => {
    await using server = await serve({});
    const accepted = once(server, "connection").then(([socket]) => socket as Socket);
    const client = await open(server);
    client.setNoDelay(true);
    client.write(`GET / HTTP/1.1\r\nHost: a\r\nX-Long: ${"x".repeat(10_000)}`);
    const answered = rest(client);
    // Each is taken before the next one is sent, so none is joined to another.
    const taken = await accepted;
    const sendOne = async (text: string): Promise<void> => {
      const before = taken.bytesRead;
      client.write(text);
      while (!taken.destroyed && taken.bytesRead === before && !client.destroyed) await setImmediate();
    };
    for (let count = 0; count < 300; count += 1) await sendOne("x");
    assert.equal(client.destroyed, false, "short headers may");
    await sendOne("x".repeat(60_000));
    for (let count = 0; count < 1000 && !client.destroyed; count += 1) await sendOne("x");
    assert.match(await answered, /^HTTP\/1\.1 408 headers-in-pieces/);
  });

  test("lets go of what keeps most of the memory, and of nothing else", async () => {
    await using server = await serve({ bufferedBytesMax: 3 * LARGE.length }, (request, response) => {
      request.resume().once("end", () => response.end(LARGE));
    });
    const quiet = await open(server);
    const unread = await Promise.all(Array.from({ length: 4 }, () => open(server, { isReading: false })));
    const accepted: Socket[] = [];
    server.on("request", ({ socket }) => accepted.push(socket));
    for (const client of unread) client.write(GET);
    await Promise.race(
      await new Promise<Promise<unknown>[]>((resolve) => {
        server.on("request", () => accepted.length === 4 && resolve(accepted.map((socket) => once(socket, "close"))));
      }),
    );
    const left = accepted.filter((socket) => !socket.destroyed).length;
    assert.ok(left >= 2 && left < 4, `${left}`);
    quiet.write(GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert.match(await rest(quiet), /^HTTP\/1\.1 200/);
    for (const client of unread) client.destroy();
  });

  test("does not hand a connection over on which requests wait for their answers", async () => {
    await using server = await serve({}, () => {});
    const upgraded = once(server, "upgrade") as Promise<[unknown, Socket]>;
    const client = await open(server);
    client.write(GET + GET.replace("\r\n\r\n", "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
    const [, socket] = await upgraded;
    assert.ok(socket.destroyed);
    client.destroy();
  });

  test("lets a body that is passed on take its time and its size, unless the client sends nothing, or next to nothing, for too long", async (t) => {
    let received = 0;
    await using server = await serve({ bodyMs: 2_000, bufferedBytesMax: 2 ** 20 }, (request, response) => {
      passBodyOn(request);
      request.on("data", (chunk) => {
        received += chunk.length;
      });
      request.once("end", () => response.end("all"));
      request.on("error", () => {});
    });
    const client = await open(server);
    const ahead = Buffer.alloc(3 * 10 ** 6, "x");
    // More than what trickles.
    let left = 5 * 10 ** 6;
    const length = ahead.length + left;
    client.write(`POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: ${length}\r\n\r\n`);
    client.write(ahead);
    const startedMs = performance.now();
    const trickle = setInterval(() => {
      // Longer than a body may take that is not passed on.
      const isLong = performance.now() - startedMs > 6_000;
      const next = isLong ? left : Math.min(left, 70_000);
      client.write(Buffer.alloc(next, "x"));
      left -= next;
      if (left === 0) clearInterval(trickle);
    }, 100);
    t.after(() => clearInterval(trickle));
    assert.match(await rest(client), /^HTTP\/1\.1 200/);
    assert.equal(received, length);
    const silent = await open(server);
    silent.write(`${POST}12345`);
    assert.match(await rest(silent), /^HTTP\/1\.1 408 late-body/);
    const dripping = await open(server);
    dripping.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    const drip = setInterval(() => dripping.write("x"), 50);
    t.after(() => clearInterval(drip));
    assert.match(await rest(dripping), /^HTTP\/1\.1 408 late-body/);
  });
});
