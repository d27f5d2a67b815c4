import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { join } from "node:path";
import { after, test } from "node:test";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { useAgent } from "../../tests/agent-fixture.ts";
import { eventually } from "../../tests/eventually.ts";

interface Fetched {
  readonly status: number;
  readonly statusText: string;
  readonly headers: [name: string, value: string][];
  readonly bodyStreamId: number | null;
}

let server: Server;
let url: string;
/** Requests for /slow and /endless whose client went away. */
let abandoned = 0;

const at = useAgent(async () => {
  server = createServer(answer).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

after(() => server.closeAllConnections());
after(() => server.close());

const ROUTES: Readonly<Record<string, (request: IncomingMessage, response: ServerResponse) => void>> = {
  "/plain": (_request, response) =>
    response.setHeader("content-type", "text/html").setHeader("X-Upper-Case", "Value").end("plain"),
  "/cookies": (_request, response) => response.setHeader("Set-Cookie", ["a=1; Path=/", "b=2"]).end(),
  "/gzip": (_request, response) => compressed(response, "gzip", gzipSync("text".repeat(1000))),
  "/br": (_request, response) => compressed(response, "br", brotliCompressSync("text".repeat(1000))),
  "/zstd": (_request, response) => compressed(response, "zstd", Buffer.from("left as it is")),
  "/redirect": (_request, response) => response.writeHead(302, { location: "/plain" }).end("moved"),
  "/204": (_request, response) => response.writeHead(204).end(),
  "/205": (_request, response) => response.writeHead(205).end(),
  "/304": (_request, response) => response.writeHead(304, { etag: '"x"' }).end(),
  "/404": (_request, response) => response.writeHead(404).end("missing"),
  "/999": (_request, response) => response.writeHead(999).end(),
  "/echo": (request, response) => request.pipe(response),
  "/request": (request, response) =>
    response.end(JSON.stringify({ method: request.method, url: request.url, headers: request.rawHeaders })),
  "/slow": (_request, response) => void response.on("close", () => abandoned++),
  "/endless": (_request, response) => endless(response.on("close", () => abandoned++)),
};

function answer(request: IncomingMessage, response: ServerResponse): void {
  ROUTES[new URL(request.url ?? "", url).pathname]?.(request, response);
}

function compressed(response: ServerResponse, encoding: string, body: Buffer): void {
  response
    .writeHead(200, { "content-encoding": encoding, "content-length": body.length, "content-type": "text/plain" })
    .end(body);
}

/** A body without an end, slow enough for a test that keeps every message. */
function endless(response: ServerResponse): void {
  const timer = setInterval(() => response.write(randomBytes(1024)), 5);
  response.on("close", () => clearInterval(timer));
}

function request(path: string, more: object = {}): object {
  return { url: path.startsWith("/") ? url + path : path, method: "GET", headers: [], redirect: "follow", ...more };
}

async function fetched(path: string, more: object = {}): Promise<Fetched & { readonly body: string | null }> {
  const response = (await at.client.ok("fetch", request(path, more))) as Fetched;
  const chunks = response.bodyStreamId === null ? null : await at.client.chunks(response.bodyStreamId);
  return { ...response, body: chunks === null ? null : Buffer.concat(chunks).toString() };
}

const valuesOf = ({ headers }: Fetched, wanted: string) =>
  headers.filter(([name]) => name === wanted).map(([, value]) => value);

test("a response has its status, its text, lower-case header names and its body", async () => {
  const plain = await fetched("/plain");
  assert.deepEqual([plain.status, plain.statusText, plain.body], [200, "OK", "plain"]);
  assert.deepEqual([valuesOf(plain, "content-type"), valuesOf(plain, "x-upper-case")], [["text/html"], ["Value"]]);
  const missing = await fetched("/404");
  assert.deepEqual([missing.status, missing.statusText, missing.body], [404, "Not Found", "missing"]);
  assert.deepEqual(valuesOf(await fetched("/cookies"), "set-cookie"), ["a=1; Path=/", "b=2"]);
});

test("an encoded body arrives decoded, without the headers of its encoded form", async () => {
  for (const path of ["/gzip", "/br"]) {
    const response = await fetched(path);
    assert.equal(response.body, "text".repeat(1000));
    assert.deepEqual([valuesOf(response, "content-encoding"), valuesOf(response, "content-length")], [[], []]);
    assert.deepEqual(valuesOf(response, "content-type"), ["text/plain"]);
  }
  const unknown = await fetched("/zstd");
  assert.deepEqual(
    [unknown.body, valuesOf(unknown, "content-encoding"), valuesOf(unknown, "content-length")],
    ["left as it is", ["zstd"], ["13"]],
  );
});

test("a response that may have no body has a null stream", async () => {
  for (const status of [204, 205, 304]) {
    const response = (await at.client.ok("fetch", request(`/${status}`))) as Fetched;
    assert.deepEqual([response.status, response.bodyStreamId], [status, null]);
  }
  const head = (await at.client.ok("fetch", request("/plain", { method: "HEAD" }))) as Fetched;
  assert.deepEqual([head.status, head.bodyStreamId], [200, null]);
  assert.equal((await at.client.failure("fetch", request("/999"))).constructorName, "TypeError");
});

test("redirects are followed or handed on", async () => {
  assert.equal((await fetched("/redirect")).body, "plain");
  const manual = await fetched("/redirect", { redirect: "manual" });
  assert.deepEqual([manual.status, valuesOf(manual, "location"), manual.body], [302, ["/plain"], "moved"]);
});

test("method, headers and a streamed body reach the server", async () => {
  const seen = JSON.parse(
    (
      await fetched("/request?a=1", {
        method: "PATCH",
        headers: [
          ["X-One", "1"],
          ["x-two", "é"],
        ],
        abortId: 1,
      })
    ).body ?? "",
  );
  assert.deepEqual([seen.method, seen.url], ["PATCH", "/request?a=1"]);
  const names = seen.headers.map((name: string) => name.toLowerCase());
  assert.equal(seen.headers[names.indexOf("x-one") + 1], "1");

  at.client.notify("$sandbox.stream.start", { streamId: 5 });
  const id = at.client.request("fetch", request("/echo", { method: "POST", bodyStreamId: 5 }));
  const { streamId } = await sendAndAwait(id);
  at.client.notify("$sandbox.stream.enqueue", { streamId: 5, data: Buffer.from("second").toString("base64") });
  at.client.notify("$sandbox.stream.end", { streamId: 5 });
  assert.equal(Buffer.concat(await at.client.chunks(streamId)).toString(), "first second");
});

/** The answer comes while the request's body is still being sent. */
async function sendAndAwait(id: number): Promise<{ streamId: number }> {
  at.client.notify("$sandbox.stream.enqueue", { streamId: 5, data: Buffer.from("first ").toString("base64") });
  const { result } = await at.client.answer(id);
  return { streamId: (result?.ok as Fetched | undefined)?.bodyStreamId ?? -1 };
}

test("what cannot be fetched is a TypeError that says why", async () => {
  const refused = await at.client.failure("fetch", request("http://127.0.0.1:9/"));
  assert.equal(refused.constructorName, "TypeError");
  const port = await unusedPort();
  const error = await at.client.failure("fetch", request(`http://127.0.0.1:${port}/`));
  assert.equal(error.constructorName, "TypeError");
  assert.match(error.message, /Connection refused/);
  assert.equal((await at.client.failure("fetch", request("nonsense"))).constructorName, "TypeError");
  assert.equal(
    (await at.client.failure("fetch", request("/plain", { method: "BAD METHOD" }))).constructorName,
    "TypeError",
  );
  assert.equal(
    (await at.client.failure("fetch", request("/plain", { headers: [["a b", "c"]] }))).constructorName,
    "TypeError",
  );
  const { error: invalid } = await at.client.answer(
    at.client.request("fetch", request("/plain", { redirect: "error" })),
  );
  assert.equal(invalid?.code, -32602);
});

test("an abort ends a request that waits, and the body of one that was answered", async () => {
  const before = abandoned;
  const waiting = at.client.request("fetch", request("/slow", { abortId: 10 }));
  await eventually("the server has the request", () => connections() > 0);
  await at.client.ok("abort", { abortId: 10 });
  const { error } = (await at.client.answer(waiting)).result ?? {};
  assert.deepEqual([error?.constructorName, error?.name], ["DOMException", "AbortError"]);
  await eventually("the server sees it", () => abandoned === before + 1);

  const { bodyStreamId } = (await at.client.ok("fetch", request("/endless", { abortId: 11 }))) as Fetched;
  const streamId = bodyStreamId ?? -1;
  await at.client.until(() => at.client.stream(streamId).find(({ kind }) => kind === "enqueue"), "a first chunk");
  await at.client.ok("abort", { abortId: 11 });
  await assert.rejects(at.client.chunks(streamId), { constructorName: "DOMException", name: "AbortError" });
  await eventually("the server sees it", () => abandoned === before + 2);
});

test("a body that the client cancels is not fetched any further", async () => {
  const before = abandoned;
  const { bodyStreamId } = (await at.client.ok("fetch", request("/endless"))) as Fetched;
  const streamId = bodyStreamId ?? -1;
  await at.client.until(() => at.client.stream(streamId).find(({ kind }) => kind === "enqueue"), "a first chunk");
  at.client.notify("$sandbox.stream.cancel", { streamId, reason: null });
  await eventually("the server sees it", () => abandoned === before + 1);
});

const PROGRAM = `
  Deno.serve({ port: 0, onListen() {} }, async (request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/echo") return new Response(request.body);
    if (pathname === "/away") return Response.redirect("https://elsewhere.example/arrived");
    return new Response(JSON.stringify({ url: request.url, method: request.method, header: request.headers.get("x-header") }));
  });`;

async function run(params: object): Promise<number> {
  return (
    (await at.client.ok("spawnDeno", { stdout: "null", stderr: "null", extension: "ts", ...params })) as { pid: number }
  ).pid;
}

async function end(pid: number): Promise<void> {
  await at.client.ok("processKill", { pid, signal: "SIGKILL" });
  await at.client.ok("processWait", { pid });
}

test("a request with a pid goes to that process, whatever its host, as soon as it listens", async () => {
  const pids = await Promise.all([run({ code: PROGRAM }), run({ code: PROGRAM })]);
  for (const pid of pids) {
    const response = await fetched("https://example.com/a%20b?c=1", {
      pid,
      method: "PUT",
      headers: [["X-Header", "value"]],
    });
    assert.equal(response.status, 200);
    assert.deepEqual(valuesOf(response, "content-type"), ["text/plain;charset=UTF-8"]);
    assert.deepEqual(JSON.parse(response.body ?? ""), {
      url: "http://example.com/a%20b?c=1",
      method: "PUT",
      header: "value",
    });
    const moved = await fetched("http://anything.invalid/away", { pid });
    assert.equal(JSON.parse(moved.body ?? "").url, "http://elsewhere.example/arrived");
  }
  await Promise.all(pids.map(end));
});

test("a node:http server, one on IPv6 and one on a Unix socket are reached as well", async () => {
  const programs = [
    "(await import('node:http')).createServer((request, response) => response.end(request.url)).listen(0);",
    "Deno.serve({ port: 0, hostname: '::1' }, (request) => new Response(new URL(request.url).pathname));",
    "Deno.serve({ path: Deno.args[0] }, (request) => new Response(new URL(request.url).pathname));",
  ];
  for (const code of programs) {
    const pid = await run({ code, scriptArgs: [join(at.directory, "socket")] });
    assert.equal((await fetched("https://example.com/path", { pid })).body, "/path", code);
    await end(pid);
  }
});

test("a process without a server, an ended one and an unknown one are errors", async () => {
  const pid = await run({ code: "await new Promise((resolve) => setTimeout(resolve, 100))" });
  assert.equal(
    (await at.client.failure("fetch", request("https://example.com/", { pid }))).constructorName,
    "TypeError",
  );
  assert.equal(
    (await at.client.failure("fetch", request("https://example.com/", { pid }))).constructorName,
    "TypeError",
  );
  assert.equal(
    (await at.client.failure("fetch", request("https://example.com/", { pid: 999_999_999 }))).code,
    "ENOENT",
  );
});

test("bodies are passed on no faster than they are taken", async () => {
  const pid = await run({ code: PROGRAM });
  at.client.notify("$sandbox.stream.start", { streamId: 7 });
  const id = at.client.request("fetch", request("https://example.com/echo", { pid, method: "POST", bodyStreamId: 7 }));
  const before = await peakMemoryBytes();
  const chunk = randomBytes(64 * 1024).toString("base64");
  for (let index = 0; index < 1500; index++) {
    at.client.notify("$sandbox.stream.enqueue", { streamId: 7, data: chunk });
    if (at.client.unsentBytes > 1024 * 1024)
      await eventually("the agent takes more", () => at.client.unsentBytes < 1024 * 1024);
  }
  at.client.notify("$sandbox.stream.end", { streamId: 7 });
  const { result } = await at.client.answer(id);
  const body = Buffer.concat(await at.client.chunks((result?.ok as Fetched | undefined)?.bodyStreamId ?? -1));
  assert.equal(body.length, 1500 * 64 * 1024);
  assert.ok(body.subarray(-64 * 1024).toString("base64") === chunk);
  const grownMiB = ((await peakMemoryBytes()) - before) / 1024 / 1024;
  assert.ok(grownMiB < 80, `the agent's peak memory grew by ${grownMiB.toFixed(1)} MiB`);
  await end(pid);
});

function connections(): number {
  return (server as unknown as { _connections: number })._connections;
}

/** A port that was free a moment ago. */
async function unusedPort(): Promise<number> {
  const probe = createTcpServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => probe.once("listening", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

async function peakMemoryBytes(): Promise<number> {
  const status = await readFile(`/proc/${at.agent.process.pid}/status`, "utf8");
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}
