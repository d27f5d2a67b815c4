import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, suite, test } from "node:test";
import { Sandbox } from "@deno/sandbox";
import WebSocket from "ws";
import type { TestClient } from "./support/client.ts";
import { eventually } from "./support/eventually.ts";
import { type PreviewClient, readStream } from "./support/preview-client.ts";
import { type Echo, header, hostOf, PreviewWorld, serve } from "./support/preview-world.ts";

suite("previews", () => {
  let world: PreviewWorld;
  let client: TestClient;
  let preview: PreviewClient;
  let sandbox: Sandbox;
  let other: Sandbox;
  let url: string;
  before(async () => {
    world = await PreviewWorld.start();
    ({ client, preview, sandbox, other, url } = world);
  });
  after(() => world[Symbol.asyncDispose]());

  test("the official client exposes a port, and its address answers at once, wherever the server inside listens", async () => {
    assert.match(url, /^https:\/\/[0-9a-z]{26}\.caisson\.localhost(:\d+)?$/);
    assert.equal((await world.echo(`${url}/path?query=1`)).url, "/path?query=1");
    await serve(sandbox, 8001, "0.0.0.0");
    await serve(sandbox, 8002, "::1");
    for (const port of [8001, 8002]) await world.echo(await sandbox.exposeHttp({ port }));
    const own = (await sandbox.sh`hostname -I`.text()).trim().split(" ")[0] ?? "";
    await serve(sandbox, 8003, own);
    await world.echo(await sandbox.exposeHttp({ port: 8003 }));
    assert.notEqual(await sandbox.exposeHttp({ port: 8000 }), url, "each call makes a name of its own");
  });

  test("a Deno process is exposed by its pid, before it listens and whatever port it takes", async () => {
    await using process = await sandbox.deno.run({
      code: `
        const isThere = () => Deno.stat("/tmp/listen").then(() => true, () => false);
        while (!(await isThere())) await new Promise((resolve) => setTimeout(resolve, 20));
        Deno.serve({ port: 0 }, () => new Response("from Deno"));`,
    });
    const address = await sandbox.exposeHttp(process);
    assert.equal((await preview.get(address)).status, 502, "nothing listens yet");
    await sandbox.fs.writeTextFile("/tmp/listen", "");
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
      await world.echo(created.url);
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
      assert.equal((await world.echo(url, { method })).method, method);
    assert.equal((await preview.get(url, { method: "HEAD" })).headers["x-served"], "yes");
    const body = Buffer.alloc(20_000_000, "caisson");
    const sent = await world.echo(url, { method: "POST", headers: { "content-length": body.length } }, body);
    assert.equal(sent.bytes, body.length);
    const chunked = await world.echo(url, { method: "POST", headers: { "transfer-encoding": "chunked" } }, body);
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
    const got = await world.echo(url, {
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
    assert.deepEqual(header(got, "forwarded"), ["for=127.0.0.1;proto=https"]);
    for (const name of ["x-real-ip", "x-mine", "te"]) assert.deepEqual(header(got, name), [], name);
    assert.deepEqual(header(got, "x-kept"), ["yes"]);
    const rewritten = await world.expose(sandbox.id, { port: 8000, rewrite_host: true });
    assert.deepEqual(header(await world.echo(rewritten.url), "host"), ["localhost:8000"]);
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

  test("previews are listed and revoked, with every connection through them", async () => {
    const made = await world.expose(sandbox.id, { port: 8000 });
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
