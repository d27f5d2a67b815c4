import assert from "node:assert/strict";
import { once } from "node:events";
import { readdir, stat } from "node:fs/promises";
import type { IncomingHttpHeaders } from "node:http";
import { constants } from "node:http2";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { Sandbox } from "@deno/sandbox";
import WebSocket from "ws";
import { TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { PreviewClient, readStream } from "./support/preview-client.ts";
import { TestServer } from "./support/server.ts";

/** A server inside that tells what it was asked, and does what the path says. */
const ECHO = `
const http = require("node:http");
const crypto = require("node:crypto");
const server = http.createServer(async (request, response) => {
  const { pathname } = new URL(request.url, "http://x");
  if (pathname === "/events") {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("data: first\\n\\n");
    request.socket.on("close", () => console.log("client left"));
    return;
  }
  if (pathname === "/cookies") {
    response.writeHead(200, [["set-cookie", "a=1; Domain=caisson.localhost; Path=/"], ["set-cookie", "b=2; HttpOnly"], ["alt-svc", 'h3=":1"'], ["connection", "x-hop"], ["x-hop", "1"]]);
    return response.end();
  }
  if (pathname === "/large") {
    const piece = Buffer.alloc(65536, 97);
    let left = 1024;
    const more = () => { while (left-- > 0) if (!response.write(piece)) return response.once("drain", more); response.end(); };
    return more();
  }
  if (pathname === "/half") {
    response.writeHead(200, { "content-length": 100 });
    response.write("half");
    return setTimeout(() => request.socket.destroy(), 50);
  }
  if (pathname === "/trailers") return request.socket.end("HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n1\\r\\na\\r\\n0\\r\\nETag: one\\r\\nETag: two\\r\\nHost: a\\r\\nHost: b\\r\\n\\r\\n");
  if (pathname === "/nonsense") return request.socket.end("HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n1\\r\\na\\r\\n0\\r\\n\\r\\n");
  const hash = crypto.createHash("sha256");
  let bytes = 0;
  for await (const chunk of request) { hash.update(chunk); bytes += chunk.length; }
  response.setHeader("x-served", "yes");
  response.end(JSON.stringify({ method: request.method, url: request.url, raw: request.rawHeaders, bytes, hash: hash.digest("hex") }));
});
server.on("upgrade", (request, socket) => {
  const accept = crypto.createHash("sha1").update(request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");
  socket.write("HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: " + accept + "\\r\\n\\r\\n");
  // An echo of small text frames: the mask is taken off.
  socket.on("data", (frame) => {
    const opcode = frame[0] & 15, length = frame[1] & 127;
    if (opcode === 8) return socket.end(Buffer.from([0x88, 0]));
    const mask = frame.subarray(2, 6);
    const text = Buffer.from(frame.subarray(6, 6 + length).map((byte, index) => byte ^ mask[index & 3]));
    socket.write(Buffer.concat([Buffer.from([0x81, length]), text]));
  });
});
server.listen(Number(process.argv[2]), process.argv[3], () => console.log("listening"));
`;

interface Echo {
  readonly method: string;
  readonly url: string;
  readonly raw: readonly string[];
  readonly bytes: number;
  readonly hash: string;
}

suite("previews", () => {
  let server: TestServer;
  let client: TestClient;
  let preview: PreviewClient;
  let sandbox: Sandbox;
  let other: Sandbox;
  let url: string;

  /** Starts the echo inside, and resolves when it listens. */
  const serve = async (where: Sandbox, port: number, address: string): Promise<void> => {
    const child = await where.spawn("node", { args: ["-e", ECHO, "echo", String(port), address], stdout: "piped" });
    const reader = child.stdout?.getReader();
    const { value } = (await reader?.read()) ?? {};
    assert.match(new TextDecoder().decode(value), /listening/);
    reader?.releaseLock();
  };
  const echo = async (target: string, options = {}, body?: string | Buffer): Promise<Echo> => {
    const answer = await preview.get(target, options, body);
    assert.equal(answer.status, 200, answer.body);
    return JSON.parse(answer.body) as Echo;
  };
  const header = ({ raw }: Echo, name: string): readonly string[] =>
    raw.filter((_, index) => index % 2 === 1 && raw[index - 1]?.toLowerCase() === name);
  const expose = (id: string, body: object): Promise<{ domain: string; url: string; token: string | null }> =>
    client.rest("POST", `/api/v3/sandbox/${id}/expose/http`, body);
  const hostOf = (address: string): string => new URL(address).host;

  before(async () => {
    server = await TestServer.start();
    Object.assign(process.env, server.clientEnv());
    client = new TestClient(server);
    preview = await PreviewClient.of(server.dataDirectory);
    sandbox = await Sandbox.create();
    other = await Sandbox.create();
    await serve(sandbox, 8000, "127.0.0.1");
    await serve(sandbox, 8001, "0.0.0.0");
    await serve(sandbox, 8002, "::1");
    await serve(other, 8000, "127.0.0.1");
    url = await sandbox.exposeHttp({ port: 8000 });
  });
  after(async () => {
    await sandbox?.kill();
    await other?.kill();
    await server[Symbol.asyncDispose]();
  });

  test("the official client exposes a port, and its address answers at once, wherever the server inside listens", async () => {
    assert.match(url, /^https:\/\/[0-9a-z]{26}\.caisson\.localhost(:\d+)?$/);
    assert.equal((await echo(`${url}/path?query=1`)).url, "/path?query=1");
    for (const port of [8001, 8002]) await echo(await sandbox.exposeHttp({ port }));
    const own = (await sandbox.sh`hostname -I`.text()).trim().split(" ")[0] ?? "";
    await serve(sandbox, 8003, own);
    await echo(await sandbox.exposeHttp({ port: 8003 }));
    assert.notEqual(await sandbox.exposeHttp({ port: 8000 }), url, "each call makes a name of its own");
  });

  test("a Deno process is exposed by its pid, before it listens and whatever port it takes", async () => {
    await using process = await sandbox.deno.run({
      code: 'setTimeout(() => Deno.serve({ port: 0 }, () => new Response("from Deno")), 500)',
    });
    const address = await sandbox.exposeHttp(process);
    assert.equal((await preview.get(address)).status, 502, "nothing listens yet");
    assert.equal(await process.httpReady, true);
    assert.equal((await preview.get(address)).body, "from Deno");
    await process.kill();
    await process.status;
    assert.equal((await preview.get(address)).status, 502);
  });

  test("a created sandbox has its port exposed", async () => {
    const created = await Sandbox.create({ port: 8000 });
    try {
      assert.ok(created.url);
      assert.equal((await preview.get(created.url)).status, 502, "nothing listens yet");
      await serve(created, 8000, "127.0.0.1");
      await echo(created.url);
    } finally {
      await created.kill();
    }
    assert.equal((await preview.get(created.url ?? "")).status, 404, "its end ends the preview");
  });

  test("a name that is not this sandbox's own, or no port, cannot be bound", async () => {
    await assert.rejects(async () => {
      const foreign = await client.rest<{ domain: string }>("POST", `/api/v3/sandbox/${other.id}/expose/http`, {});
      await sandboxCall(sandbox, foreign.domain);
    }, /no such name/);
    const [code] = await client.refused("POST", `/api/v3/sandbox/${sandbox.id}/expose/http`, { port: 70_000 });
    assert.equal(code, "400 INVALID_REQUEST");
    assert.deepEqual(
      (await client.refused("POST", "/api/v3/sandbox/sbx_ord_00000000000000000000/expose/http", {}))[0],
      "404 SANDBOX_NOT_FOUND",
    );
  });

  test("every method and both bodies pass, large ones too, over HTTP/1.1 and HTTP/2", async () => {
    for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
      assert.equal((await echo(url, { method })).method, method);
    assert.equal((await preview.get(url, { method: "HEAD" })).headers["x-served"], "yes");
    const body = Buffer.alloc(20_000_000, "caisson");
    const sent = await echo(url, { method: "POST", headers: { "content-length": body.length } }, body);
    assert.equal(sent.bytes, body.length);
    const chunked = await echo(url, { method: "POST", headers: { "transfer-encoding": "chunked" } }, body);
    assert.equal(chunked.hash, sent.hash);
    const session = preview.http2(url);
    const stream = session.request({ ":method": "POST", ":path": "/two", cookie: ["a=1", "b=2"] });
    stream.end(body);
    const answer = await readStream(stream);
    const two = JSON.parse(answer.body) as Echo;
    assert.deepEqual([answer.status, two.url, two.hash], [200, "/two", sent.hash]);
    assert.deepEqual(header(two, "cookie"), ["a=1; b=2"]);
    const large = await readStream(session.request({ ":path": "/large" }));
    assert.equal(large.body.length, 64 * 2 ** 20);
    session.close();
    assert.equal((await preview.get(`${url}/large`)).body.length, 64 * 2 ** 20);
  });

  test("the server inside learns the client's address and the preview's name, and nothing that the client made up", async () => {
    const got = await echo(url, {
      headers: {
        "x-forwarded-for": "6.6.6.6",
        "x-forwarded-host": "evil.test",
        forwarded: "for=6.6.6.6",
        "x-real-ip": "6.6.6.6",
        connection: "x-mine",
        "x-mine": "1",
        te: "trailers",
        "x-kept": "yes",
      },
    });
    assert.deepEqual(header(got, "host"), [hostOf(url)]);
    assert.deepEqual(header(got, "x-forwarded-for"), ["127.0.0.1"]);
    assert.deepEqual(header(got, "x-forwarded-host"), [hostOf(url)]);
    assert.deepEqual(header(got, "x-forwarded-proto"), ["https"]);
    assert.deepEqual(header(got, "forwarded"), [`for=127.0.0.1;host="${hostOf(url)}";proto=https`]);
    for (const name of ["x-real-ip", "x-mine", "te"]) assert.deepEqual(header(got, name), [], name);
    assert.deepEqual(header(got, "x-kept"), ["yes"]);
    const rewritten = await expose(sandbox.id, { port: 8000, rewrite_host: true });
    assert.deepEqual(header(await echo(rewritten.url), "host"), ["localhost:8000"]);
    const { headers } = await preview.get(`${url}/cookies`);
    assert.deepEqual(headers["set-cookie"], ["a=1; Path=/", "b=2; HttpOnly"]);
    assert.deepEqual([headers["alt-svc"], headers["x-hop"]], [undefined, undefined]);
  });

  test("events pass as they come, and a client that leaves is noticed inside", async () => {
    const response = await preview.open(`${url}/events`);
    const [first] = (await once(response, "data")) as [Buffer];
    assert.equal(first.toString(), "data: first\n\n");
    response.destroy();
    const count = async () => (await sandbox.sh`ss -tn state established "sport = :8000" | wc -l`.text()).trim();
    await eventually("the connection inside ends", async () => ((await count()) === "1" ? true : null));
  });

  test("WebSockets pass both ways and close properly", async () => {
    const socket = new WebSocket(url.replace("https", "wss"), {
      ca: preview.ca,
      lookup: (_host, _options, done) => done(null, [{ address: "127.0.0.1", family: 4 }]),
    });
    await once(socket, "open");
    socket.send("ping");
    const [message] = (await once(socket, "message")) as [Buffer];
    assert.equal(String(message), "ping");
    socket.close();
    await once(socket, "close");
  });

  test("ten thousand requests are answered", async () => {
    const session = preview.http2(url);
    let left = 10_000;
    const worker = async (): Promise<void> => {
      while (left-- > 0) {
        const { status } = await readStream(session.request({ ":path": "/" }));
        assert.equal(status, 200);
      }
    };
    await Promise.all(Array.from({ length: 16 }, worker));
    session.close();
  });

  test("half an answer, or one framed in two ways, is never taken for a whole one", async () => {
    await assert.rejects(preview.get(`${url}/half`), /aborted|socket hang up/);
    const { status } = await preview.get(`${url}/nonsense`);
    assert.equal(status, 502);
  });

  test("trailers with a name twice, which HTTP/2 does not let some have, come as one", async () => {
    const session = preview.http2(url);
    const stream = session.request({ ":path": "/trailers" });
    const trailers = once(stream, "trailers");
    assert.equal((await readStream(stream)).body, "a");
    const [{ etag, host }] = (await trailers) as [IncomingHttpHeaders];
    assert.deepEqual([etag, host], ["one, two", "a, b"]);
    session.close();
    assert.equal((await preview.get(`${url}/trailers`)).body, "a");
  });

  test("a client of HTTP/2 that leaves while the server inside is looked for leaves no connection there", async () => {
    await using process = await sandbox.deno.run({
      code: `
        let waiting = 0;
        Deno.serve({ port: 0 }, (request) => {
          if (new URL(request.url).pathname === "/count") return new Response(String(waiting));
          waiting += 1;
          request.signal.addEventListener("abort", () => { waiting -= 1; });
          return new Promise(() => {});
        });`,
    });
    const address = await sandbox.exposeHttp(process);
    assert.equal(await process.httpReady, true);
    const session = preview.http2(address);
    await once(session, "connect");
    for (let left = 0; left < 20; left += 1) {
      const stream = session.request({ ":path": "/wait" });
      stream.on("error", () => undefined);
      setImmediate(() => stream.close(constants.NGHTTP2_CANCEL));
      await once(stream, "close");
    }
    session.close();
    await eventually("the server inside waits with no connection", async () =>
      (await preview.get(`${address}/count`)).body === "0" ? true : null,
    );
    await process.kill();
  });

  test("requests that could be read in two ways are refused, and never reach a sandbox", async () => {
    const host = hostOf(url);
    const pairs = [
      `POST / HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG`,
      `POST / HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello`,
      `POST / HTTP/1.1\r\nHost: ${host}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
      `POST / HTTP/1.1\r\nHost: ${host}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: ${host}\r\nHost: ${hostOf(await other.exposeHttp({ port: 8000 }))}\r\n\r\n`,
      `GET http://evil.test/ HTTP/1.1\r\nHost: ${host}\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: ${host}\r\nX: a\rHost: b\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: ${host}\nX: a\n\n`,
      `GET / HTTP/1.1\r\nhost: ${host}/../\r\n\r\n`,
      `GET / HTTP/1.1\r\nConnection: close\r\n\r\n`,
    ];
    for (const text of pairs) {
      const answer = await preview.exchange(url, text.replace(/^(GET .*\r\n)/, "$1Connection: close\r\n"));
      assert.match(answer, /^HTTP\/1\.1 400 /, text);
      assert.equal(answer.match(/^HTTP\/1\.1 /gm)?.length, 1, `one answer to ${text}`);
      assert.doesNotMatch(answer, /x-served/);
    }
    const flood = `GET / HTTP/1.1\r\nHost: ${host}\r\n${"X-Flood: 1234567890\r\n".repeat(10_000)}\r\n`;
    assert.match(await preview.exchange(url, flood), /^HTTP\/1\.1 431 /);
  });

  test("a connection that was opened for one sandbox does not lead to another", async () => {
    const second = await other.exposeHttp({ port: 8000 });
    const answer = await preview.exchange(
      url,
      `GET / HTTP/1.1\r\nHost: ${hostOf(second)}\r\nConnection: close\r\n\r\n`,
    );
    assert.match(answer, /^HTTP\/1\.1 421 /);
    const session = preview.http2(url);
    const { status } = await readStream(session.request({ ":path": "/", ":authority": hostOf(second) }));
    assert.equal(status, 421);
    session.close();
    for (const host of ["localhost", `evil.test`, `x.${hostOf(url)}`, `caisson.localhost`]) {
      const socket = await preview.get(url, { headers: { host }, servername: "" });
      assert.equal(socket.status, 404, host);
    }
  });

  test("a client that is slow to send its request is ended, and waits for nothing inside", async () => {
    const socket = await preview.raw(url);
    socket.write("GET / HTTP/1.1\r\n");
    let answer = "";
    socket.on("data", (chunk: Buffer) => {
      answer += String(chunk);
    });
    await once(socket, "close");
    assert.match(answer, /^HTTP\/1\.1 408 /);
  });

  test("a private preview takes its token, or a link that expires, and the server inside sees neither", async () => {
    const made = await expose(sandbox.id, { port: 8000, private: true });
    assert.equal((await preview.get(made.url)).status, 401);
    const token = { "x-caisson-preview-token": made.token ?? "" };
    const got = await echo(made.url, { headers: { ...token, cookie: "mine=1" } });
    assert.deepEqual([header(got, "x-caisson-preview-token"), header(got, "cookie")], [[], ["mine=1"]]);
    assert.equal((await preview.get(made.url, { headers: { "x-caisson-preview-token": "cpt_x" } })).status, 401);
    const path = `/api/v3/sandbox/${sandbox.id}/expose/http/${made.domain}/link`;
    const link = await client.rest<{ url: string }>("POST", path, { expires_in_seconds: 60, path: "/inner?a=1" });
    const entered = await preview.get(link.url);
    assert.deepEqual([entered.status, entered.headers.location], [302, "/inner?a=1"]);
    const [setCookie = ""] = entered.headers["set-cookie"] ?? [];
    assert.match(setCookie, /^__Host-caisson-preview=\S+; Path=\/; Secure; HttpOnly; SameSite=Lax; Max-Age=\d+$/);
    const cookie = setCookie.split(";")[0] ?? "";
    const inside = await echo(`${made.url}/inner?a=1`, { headers: { cookie: `a=1; ${cookie}` } });
    assert.deepEqual(header(inside, "cookie"), ["a=1"]);
    const second = await expose(sandbox.id, { port: 8000, private: true });
    assert.equal((await preview.get(second.url, { headers: { cookie } })).status, 401, "it is for one name alone");
    const forged = link.url.replace(/until=\d+/, `until=${Date.now() + 1e9}`);
    assert.equal((await preview.get(forged)).status, 401);
    const short = await client.rest<{ url: string }>("POST", path, { expires_in_seconds: 1 });
    await eventually("the link expires", async () => ((await preview.get(short.url)).status === 401 ? true : null));
    for (const target of ["//evil.test", "/\\evil.test", "evil", "/a\nb"])
      assert.equal((await client.refused("POST", path, { path: target }))[0], "400 INVALID_REQUEST", target);
    assert.equal(
      (await client.refused("POST", `/api/v3/sandbox/${sandbox.id}/expose/http/${hostOf(url)}/link`, {}))[0],
      "400 INVALID_REQUEST",
    );
  });

  test("previews are listed and revoked, with every connection through them", async () => {
    const made = await expose(sandbox.id, { port: 8000 });
    const listed = await client.rest<{ domain: string; port: number }[]>(
      "GET",
      `/api/v3/sandbox/${sandbox.id}/expose/http`,
    );
    assert.deepEqual(listed.find(({ domain }) => domain === made.domain)?.port, 8000);
    const events = await preview.open(`${made.url}/events`);
    events.on("error", () => undefined);
    const foreign = `/api/v3/sandbox/${other.id}/expose/http/${made.domain}`;
    assert.equal((await client.refused("DELETE", foreign))[0], "404 PREVIEW_NOT_FOUND");
    const closed = new Promise((resolve) => events.once("close", resolve));
    await client.rest("DELETE", `/api/v3/sandbox/${sandbox.id}/expose/http/${made.domain}`);
    await closed;
    assert.equal((await preview.get(made.url)).status, 404);
  });

  test("the key of the authority is for root alone, and nothing else in its directory is secret", async () => {
    const directory = join(server.dataDirectory, "previews");
    const modes = Object.fromEntries(
      await Promise.all(
        (await readdir(directory)).map(async (name) => [name, (await stat(join(directory, name))).mode & 0o777]),
      ),
    );
    assert.deepEqual(modes, { "authority-key.pem": 0o600, "authority.pem": 0o644, "trust.pem": 0o644, domain: 0o644 });
  });
});

/** The RPC alone, for a name that was reserved elsewhere. */
async function sandboxCall(sandbox: Sandbox, domain: string): Promise<void> {
  const url = `${process.env.DENO_SANDBOX_ENDPOINT?.replace("http", "ws")}/api/v3/sandbox/${sandbox.id}/connect`;
  const socket = new WebSocket(url, { headers: { authorization: `Bearer ${process.env.DENO_DEPLOY_TOKEN}` } });
  await once(socket, "open");
  socket.send(JSON.stringify({ jsonrpc: "2.0", id: 1, method: "exposeHttp", params: { domain, port: 8000 } }));
  const [message] = (await once(socket, "message")) as [Buffer];
  socket.close();
  const { result } = JSON.parse(String(message)) as { result?: { error?: { message: string } } };
  if (result?.error !== undefined) throw new Error(result.error.message);
}
