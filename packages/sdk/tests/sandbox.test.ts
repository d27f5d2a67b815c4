import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import { ConnectionEstablishmentError, InvalidTokenError, NetworkError, Sandbox } from "../src/index.ts";
import { AgentGateway, SANDBOX_ID } from "./agent-gateway.ts";
import { FakeApi } from "./fake-api.ts";
import { FakeSandbox } from "./fake-sandbox.ts";
import { poll } from "./poll.ts";

let gateway: AgentGateway;
before(async () => {
  gateway = await AgentGateway.start();
});
after(() => gateway[Symbol.asyncDispose]());

test("creating sends the options, and the sandbox shows its id and not the token", async () => {
  await using sandbox = await Sandbox.create({ ...gateway.options, labels: { job: "x" }, volumes: { "/d": "cache" } });
  assert.equal(sandbox.id, SANDBOX_ID);
  assert.deepEqual(gateway.configs.at(-1)?.labels, { job: "x" });
  assert.equal(inspect(sandbox), `Sandbox { id: '${SANDBOX_ID}' }`);
  assert.doesNotMatch(inspect(sandbox, { showHidden: true, depth: 9 }), /ddo_test/);
});

const QUESTION = `GET /api/v3/sandbox/${SANDBOX_ID}?wait=stopped`;

test("closing a session resolves when the sandbox has stopped, however often it is closed", async () => {
  await using fake = await FakeSandbox.start();
  const sandbox = await Sandbox.create({ ...fake.options, volumes: { "/d": "cache" } });
  fake.states.push("stopping", "stopping", "stopped");
  await Promise.all([sandbox.close(), sandbox.close()]);
  assert.deepEqual(fake.states, []);
  await sandbox.close();
  assert.deepEqual(fake.questions, [QUESTION, QUESTION, QUESTION]);
});

test("closing waits for no sandbox that goes on, and for none that is gone", async () => {
  await using fake = await FakeSandbox.start();
  await (await Sandbox.create({ ...fake.options, timeout: "1m" })).close();
  await (await Sandbox.connect(SANDBOX_ID, fake.options)).close();
  assert.deepEqual(fake.questions, [], "sandboxes with a duration and secondary clients");
  await (await Sandbox.create({ ...fake.options, volumes: { "/d": "cache" } })).close();
  assert.deepEqual(fake.questions, [QUESTION], "one that the server has forgotten already");
  fake.states.push("running");
  await (await Sandbox.create({ ...fake.options, volumes: { "/d": "cache" } })).close();
  assert.deepEqual(fake.questions, [QUESTION, QUESTION], "one whose life somebody else extended");
});

test("closing fails when it stays open whether the volumes are safe", async () => {
  await using fake = await FakeSandbox.start();
  fake.states.push("failure", "failure");
  const sandbox = await Sandbox.create({ ...fake.options, volumes: { "/d": "cache" } });
  await assert.rejects(sandbox.close(), { name: "NetworkError", message: /released its volumes/ });
  await (await Sandbox.create(fake.options)).close();
  assert.deepEqual(fake.states, [], "without volumes the failure matters to nobody");
});

test("a secondary client sees the same sandbox, and its leaving ends nothing", async () => {
  await using sandbox = await Sandbox.create(gateway.options);
  {
    await using second = await Sandbox.connect(sandbox.id, gateway.options);
    assert.equal(second.id, sandbox.id);
    await second.env.set("SHARED", "yes");
  }
  await using third = await Sandbox.connect({ id: sandbox.id, ...gateway.options });
  assert.equal(await third.env.get("SHARED"), "yes");
  assert.equal((await sandbox.sh`echo $SHARED`.text()).trim(), "yes");
});

test("an id that is none is refused before any request", async () => {
  await assert.rejects(Sandbox.connect("nonsense", gateway.options), {
    name: "TypeError",
    message: /Invalid sandbox ID/,
  });
});

test("variables are set, read, listed and removed", async () => {
  await using sandbox = await Sandbox.create(gateway.options);
  await sandbox.env.set("MY_Var", "größer");
  assert.equal(await sandbox.env.get("MY_Var"), "größer");
  assert.equal((await sandbox.env.toObject()).GREETING, "hello");
  assert.equal(await sandbox.sh`printf %s "$MY_Var"`.text(), "größer");
  await sandbox.env.delete("MY_Var");
  assert.equal(await sandbox.env.get("MY_Var"), undefined);
});

test("a process can be waited for first and read afterwards", async () => {
  await using sandbox = await Sandbox.create(gateway.options);
  const child = await sandbox.spawn("bash", {
    args: ["-c", "echo out; echo err >&2; exit 3"],
    stdout: "piped",
    stderr: "piped",
  });
  assert.ok(child.pid > 0);
  assert.deepEqual(await child.status, { success: false, code: 3, signal: null, oom: false });
  const { stdoutText, stderrText } = await child.output();
  assert.deepEqual([stdoutText, stderrText], ["out\n", "err\n"]);
});

test("input goes in and comes out unchanged, also when it is large", async () => {
  await using sandbox = await Sandbox.create(gateway.options);
  const child = await sandbox.spawn("sha256sum", { stdin: "piped", stdout: "piped" });
  const writer = child.stdin?.getWriter();
  const block = new Uint8Array(3_000_000).map((_byte, index) => index % 251);
  for (let count = 0; count < 5; count += 1) await writer?.write(block);
  await writer?.close();
  const { createHash } = await import("node:crypto");
  const hash = createHash("sha256");
  for (let count = 0; count < 5; count += 1) hash.update(block);
  assert.equal((await child.output()).stdoutText, `${hash.digest("hex")}  -\n`);
});

test("a process is ended by kill, by an aborted signal and by leaving its scope", async () => {
  await using sandbox = await Sandbox.create(gateway.options);
  const killed = await sandbox.spawn("sleep", { args: ["100"], stdout: "null", stderr: "null" });
  await killed.kill("SIGKILL");
  assert.deepEqual(await killed.status, { success: false, code: 137, signal: "SIGKILL", oom: false });
  await killed.kill();

  const controller = new AbortController();
  const aborted = await sandbox.spawn("sleep", {
    args: ["100"],
    stdout: "null",
    stderr: "null",
    signal: controller.signal,
  });
  controller.abort();
  assert.equal((await aborted.status).signal, "SIGTERM");

  let left: Promise<{ code: number }>;
  {
    await using scoped = await sandbox.spawn("sleep", { args: ["100"], stdout: "null", stderr: "null" });
    left = scoped.status;
  }
  assert.equal((await left).code, 143);
});

test("a program that does not exist is NotFound", async () => {
  await using sandbox = await Sandbox.create(gateway.options);
  await assert.rejects(sandbox.spawn("no-such-program", { stdin: "piped" }), { name: "NotFound", code: "ENOENT" });
});

test("the input of a process that could not be started is ended", async () => {
  const missing = { constructorName: "NotFound", message: "no such program", code: "ENOENT" };
  await using fake = await FakeSandbox.start({
    spawn: (_params, self) => {
      self.send({ jsonrpc: "2.0", id: 0, result: { error: missing } });
      return null;
    },
  });
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  await assert.rejects(sandbox.spawn("no-such-program", { stdin: "piped" }), { name: "NotFound" });
  await poll("the input has ended", () => fake.received.some(({ method }) => method === "$sandbox.stream.error"));
});

test("shell commands keep five megabytes in order and stop at the first use of a broken pipe", async () => {
  await using sandbox = await Sandbox.create(gateway.options);
  const text = await sandbox.sh`seq 1 700000`.text();
  assert.ok(text.length > 4_500_000);
  assert.ok(text.startsWith("1\n2\n") && text.endsWith("699999\n700000\n"));
  const child = await sandbox.spawn("yes", { stdout: "piped" });
  for await (const chunk of child.stdout ?? []) {
    assert.ok(chunk.byteLength > 0);
    break;
  }
  await child.kill();
  assert.equal((await child.status).success, false);
});

test("code, files and REPLs run on Deno", async () => {
  await using sandbox = await Sandbox.create(gateway.options);
  assert.equal(await sandbox.deno.eval("const a: number = 1; a + 2"), 3);
  await using repl = await sandbox.deno.repl();
  await repl.eval("function add(a, b) { return a + b; }");
  assert.equal(await repl.call("add", 1, 2), 3);
  assert.equal(await repl.call("(a) => a * 2", 4), 8);
  await assert.rejects(repl.eval("throw new RangeError('too far')"), { name: "RangeError", message: "too far" });
  const program = await sandbox.deno.run({
    code: "console.log(Deno.args.join())",
    scriptArgs: ["x", "y"],
    stdout: "piped",
  });
  assert.equal((await program.output()).stdoutText, "x,y\n");
  assert.equal(await program.httpReady, false);
});

test("a request reaches the HTTP server of a Deno program, with its body, and can be broken off", async () => {
  await using sandbox = await Sandbox.create(gateway.options);
  await using program = await sandbox.deno.run({
    code: `Deno.serve({ port: 0, onListen() {} }, async (request) => {
      if (new URL(request.url).pathname === "/endless") return new Response(new ReadableStream({
        start(controller) { controller.enqueue(new Uint8Array(1)); } }));
      return new Response(request.method + ":" + await request.text(), { headers: { "x-a": "b" } });
    });`,
    stdout: "null",
    stderr: "null",
  });
  assert.equal(await program.httpReady, true);
  const response = await program.fetch("https://example.com/echo", { method: "post", body: "hello" });
  assert.deepEqual([response.status, response.headers.get("x-a"), await response.text()], [200, "b", "POST:hello"]);

  const controller = new AbortController();
  const endless = await program.fetch("https://example.com/endless", { signal: controller.signal });
  const reader = endless.body?.getReader();
  await reader?.read();
  controller.abort();
  await assert.rejects(async () => await reader?.read(), { name: "AbortError" });
});

test("killing ends the connection, and killing again is no error", async () => {
  await using own = await AgentGateway.start();
  const sandbox = await Sandbox.create(own.options);
  await sandbox.kill();
  await sandbox.closed;
  await assert.rejects(sandbox.env.get("A"), { name: "ConnectionClosedError" });
  await sandbox.close();
});

test("what an own kill breaks off is told that the sandbox was killed, and so are later calls", async () => {
  await using own = await AgentGateway.start();
  const sandbox = await Sandbox.create({ ...own.options, timeout: "1m" });
  const told = {
    name: "ConnectionClosedError",
    code: 1001,
    stopReason: "killed",
    stoppedAt: null,
    message: /^The sandbox ended \(killed\); connection closed \(code: 1001/,
  };
  const child = await sandbox.spawn("sleep", { args: ["100"], stdout: "piped", stderr: "null" });
  const failed = [assert.rejects(new Response(child.stdout).text(), told), assert.rejects(child.status, told)];
  await sandbox.kill();
  await Promise.all(failed);
  await assert.rejects(sandbox.env.get("B"), told);
});

test("a cut connection rejects what is pending", async () => {
  await using own = await AgentGateway.start();
  const sandbox = await Sandbox.create({ ...own.options, timeout: "1m" });
  const child = await sandbox.spawn("sleep", { args: ["100"], stdout: "piped" });
  own.cutConnections();
  await assert.rejects(child.status, { name: "ConnectionClosedError", code: 1006 });
  await assert.rejects(child.output(), { name: "ConnectionClosedError" });
  await sandbox.closed;
});

test("extending sends an absolute time and returns what the server grants", async () => {
  await using sandbox = await Sandbox.create({ ...gateway.options, timeout: "1m" });
  const before = Date.now();
  const end = await sandbox.extendTimeout("5m");
  assert.ok(end.getTime() >= before + 300_000 && end.getTime() <= Date.now() + 300_000);
  await assert.rejects(sandbox.extendTimeout("session" as "5m"), { name: "InvalidTimeoutError" });
});

test("servers, SSH and editors are exposed in two steps", async () => {
  const ended = Promise.withResolvers<object>();
  await using fake = await FakeSandbox.start({
    vscode: () => ({ pid: 9, port: 4000, stdoutStreamId: 1, stderrStreamId: 2 }),
    processWait: () => ended.promise,
    processKill: () => ended.resolve({ success: false, code: 143, signal: "SIGTERM", oom: null }),
  });
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m", ssh: true, port: 8080 });
  assert.equal(sandbox.url, "https://random.example");
  assert.deepEqual(sandbox.ssh, { hostname: "ssh.example", port: 22, username: "secret-name" });
  assert.match(inspect(sandbox), /url: 'https:\/\/random\.example'/);
  assert.equal(await sandbox.exposeHttp({ pid: 5 }), "https://random.example");
  {
    await using editor = await sandbox.exposeVscode("/home/app", { extensions: ["a.b"], env: { A: "1" } });
    assert.equal(editor.url, "https://editor.example");
  }
  await assert.rejects(sandbox.exposeVscode("/"), TypeError);
  const calls = fake.received.map(({ method, params }) => [method, params]);
  const env = { A: "1", DENO_DEPLOY_SANDBOX_TOKEN: "ddo_x" };
  assert.deepEqual(calls, [
    ["exposeHttp", { domain: "random.example", port: 8080 }],
    ["exposeHttp", { domain: "random.example", pid: 5 }],
    ["vscode", { path: "/home/app", extensions: ["a.b"], env }],
    ["exposeHttp", { domain: "editor.example", port: 4000 }],
    ["processWait", { pid: 9, vscode: true }],
    ["processKill", { pid: 9, signal: "SIGTERM", vscode: true }],
  ]);
});

test("a name that cannot be bound is given back, and the error is that of the binding", async () => {
  await using fake = await FakeSandbox.start({
    exposeHttp(_params, sandbox) {
      const { id } = sandbox.received.at(-1) ?? {};
      sandbox.send({ jsonrpc: "2.0", id, result: { error: { constructorName: "NotFound", message: "no process 5" } } });
      return new Promise(() => undefined);
    },
  });
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  await assert.rejects(sandbox.exposeHttp({ pid: 5 }), /no process 5/);
  assert.deepEqual(fake.questions, [`DELETE /api/v3/sandbox/${sandbox.id}/expose/http/random.example`]);
});

test("a creation whose preparation fails leaves no connection", async () => {
  await using fake = await FakeSandbox.start({ exposeHttp: () => new Promise(() => undefined) });
  const closed = new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      if (fake.received.length === 0) return;
      clearInterval(timer);
      fake.socket.once("close", () => resolve());
      fake.send({ jsonrpc: "2.0", id: 0, result: { error: { constructorName: "NotSupported", message: "no" } } });
    }, 1);
  });
  await assert.rejects(Sandbox.create({ ...fake.options, port: 80 }), { name: "NotSupported" });
  await closed;
});

test("a refusal says why, and a wrong token has its own class", async () => {
  const refusal = { code: "VOLUME_IN_USE", message: 'Volume "cache" is attached', hint: "End that sandbox" };
  await using refusing = await FakeApi.start(() => ({ status: 409, body: refusal }));
  const error = await Sandbox.create(refusing.options).catch((e) => e);
  assert.ok(error instanceof ConnectionEstablishmentError);
  assert.deepEqual(
    [error.status, error.code, error.message, error.requestId, error.hint],
    [409, "VOLUME_IN_USE", refusal.message, "trace-1", "End that sandbox"],
  );
  await using strange = await FakeApi.start(() => ({ status: 401, body: { code: "INVALID_TOKEN", message: "no" } }));
  await assert.rejects(Sandbox.create(strange.options), InvalidTokenError);
  await using proxy = await FakeApi.start(() => ({ status: 502, text: "<html>bad gateway</html>" }));
  await assert.rejects(Sandbox.create(proxy.options), { status: 502, code: "INVALID_RESPONSE_BODY" });
});

test("a creation is repeated when the server is starting, and not when it may have happened", async () => {
  await using starting = await FakeApi.start(() => ({ status: 503, body: { code: "SHUTTING_DOWN", message: "" } }));
  await assert.rejects(Sandbox.create(starting.options), { status: 503 });
  assert.equal(starting.requests.length, 3);
  await using cutting = await FakeApi.start(() => "cut");
  await assert.rejects(Sandbox.create(cutting.options), NetworkError);
  assert.equal(cutting.requests.length, 1);
  await assert.rejects(Sandbox.connect(SANDBOX_ID, cutting.options), NetworkError);
  assert.equal(cutting.requests.length, 4);
});

test("waiting for the opening ends with the time limit and with an aborted signal", async () => {
  await using silent = await FakeApi.start(() => "silence");
  await assert.rejects(Sandbox.create({ ...silent.options, timeoutMs: 50, maxRetries: 0 }), NetworkError);
  const controller = new AbortController();
  const opening = Sandbox.create({ ...silent.options, signal: controller.signal });
  controller.abort(new Error("enough"));
  await assert.rejects(opening, /enough/);
});

test("a server that does not name the sandbox is not accepted", async () => {
  await using fake = await FakeSandbox.start({}, {});
  await assert.rejects(Sandbox.create({ ...fake.options, maxRetries: 0 }), /without naming the sandbox/);
});
