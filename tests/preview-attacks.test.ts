import assert from "node:assert/strict";
import { once } from "node:events";
import { readdir, stat } from "node:fs/promises";
import type { IncomingHttpHeaders } from "node:http";
import { constants } from "node:http2";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import type { Sandbox } from "@deno/sandbox";
import type { TestClient } from "./support/client.ts";
import { closed } from "./support/closed.ts";
import { eventually } from "./support/eventually.ts";
import { type PreviewClient, readStream } from "./support/preview-client.ts";
import { header, hostOf, PreviewWorld } from "./support/preview-world.ts";
import type { TestServer } from "./support/server.ts";

suite("previews under attack", () => {
  let world: PreviewWorld;
  let server: TestServer;
  let client: TestClient;
  let preview: PreviewClient;
  let sandbox: Sandbox;
  let other: Sandbox;
  let url: string;
  /** What a client gets that never sends the rest of its request. The others go on while it waits. */
  let slow: Promise<string>;
  before(async () => {
    world = await PreviewWorld.start();
    ({ server, client, preview, sandbox, other, url } = world);
    const socket = await preview.raw(url);
    socket.write("GET / HTTP/1.1\r\n");
    let answer = "";
    socket.on("data", (chunk: Buffer) => {
      answer += String(chunk);
    });
    slow = closed(socket).then(() => answer);
  });
  after(() => world[Symbol.asyncDispose]());

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

  test("names in capitals are the same names, in the TLS handshake and in Host", async () => {
    const { hostname, port } = new URL(url);
    const capitals = hostname.toUpperCase();
    for (const [servername, host] of [
      [capitals, `${hostname}:${port}`],
      [hostname, `${capitals}:${port}`],
      [capitals, `${capitals}:${port}`],
    ]) {
      // Node writes the names of addresses in small letters.
      const answer = await preview.get(url, { servername, headers: { host } });
      assert.equal(answer.status, 200, `${servername} and ${host}`);
    }
  });

  test("a private preview takes its token, or a link that expires, and the server inside sees neither", async () => {
    const made = await world.expose(sandbox.id, { port: 8000, private: true });
    assert.equal((await preview.get(made.url)).status, 401);
    const token = { "x-caisson-preview-token": made.token ?? "" };
    const got = await world.echo(made.url, { headers: { ...token, cookie: "mine=1" } });
    assert.deepEqual([header(got, "x-caisson-preview-token"), header(got, "cookie")], [[], ["mine=1"]]);
    assert.equal((await preview.get(made.url, { headers: { "x-caisson-preview-token": "cpt_x" } })).status, 401);
    const path = `/api/v3/sandbox/${sandbox.id}/expose/http/${made.domain}/link`;
    const link = await client.rest<{ url: string }>("POST", path, { expires_in_seconds: 60, path: "/inner?a=1" });
    const entered = await preview.get(link.url);
    assert.deepEqual([entered.status, entered.headers.location], [302, "/inner?a=1"]);
    const [setCookie = ""] = entered.headers["set-cookie"] ?? [];
    assert.match(setCookie, /^__Host-caisson-preview=\S+; Path=\/; Secure; HttpOnly; SameSite=Lax; Max-Age=\d+$/);
    const cookie = setCookie.split(";")[0] ?? "";
    const inside = await world.echo(`${made.url}/inner?a=1`, { headers: { cookie: `a=1; ${cookie}` } });
    assert.deepEqual(header(inside, "cookie"), ["a=1"]);
    const second = await world.expose(sandbox.id, { port: 8000, private: true });
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

  test("the key of the authority is for root alone, and nothing else in its directory is secret", async () => {
    const directory = join(server.dataDirectory, "previews");
    const modes = Object.fromEntries(
      await Promise.all(
        (await readdir(directory)).map(async (name) => [name, (await stat(join(directory, name))).mode & 0o777]),
      ),
    );
    assert.deepEqual(modes, { "authority-key.pem": 0o600, "authority.pem": 0o644, "trust.pem": 0o644, domain: 0o644 });
  });

  test("a client that is slow to send its request is ended, and waits for nothing inside", async () => {
    assert.match(await slow, /^HTTP\/1\.1 408 /);
  });
});
