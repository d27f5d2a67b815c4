import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { after, before, suite, test } from "node:test";
import { KillController, Sandbox, SandboxCommandError } from "../src/index.ts";
import { AgentGateway } from "./agent-gateway.ts";
import { FakeSandbox, RUNNING_PROCESS } from "./fake-sandbox.ts";
import { poll } from "./poll.ts";

const NEVER = (): Promise<never> => new Promise(() => undefined);

/** Leaves a process behind that is in no group of ours and holds the pipes, tells its pid, and then does what `then` says. */
const leaveBehind = (then: string) => `setsid sleep 600 & echo $! | tee -a left; ${then}`;

suite("an aborted signal ends a command whatever it left behind", () => {
  let gateway: AgentGateway;
  let sandbox: Sandbox;
  before(async () => {
    gateway = await AgentGateway.start();
    sandbox = await Sandbox.create(gateway.options);
  });
  after(async () => {
    await sandbox.sh`kill -KILL $(cat left)`;
    await sandbox.close();
    await gateway[Symbol.asyncDispose]();
  });

  /** Waits until something has written to the file. */
  const appears = (file: string) =>
    poll(`${file} is there`, async () => (await sandbox.sh`test -s ${file}`.noThrow()).status.success);

  /** Resolves when the command has shown the pid of what it leaves behind. */
  const firstLine = async (stdout: ReadableStream<Uint8Array> | null): Promise<string> => {
    for await (const chunk of stdout?.values({ preventCancel: true }) ?? []) return new TextDecoder().decode(chunk);
    throw new Error("The command wrote nothing");
  };

  test("sh() fails with 143, the signal's reason and what was written until then", async () => {
    const controller = new AbortController();
    const command = sandbox.sh`bash -c ${leaveBehind("echo > up; exec sleep 600")}`.signal(controller.signal).text();
    const failed = assert.rejects(command, (error) => {
      assert.ok(error instanceof SandboxCommandError);
      assert.equal(error.code, 143);
      assert.equal(error.cause, "enough");
      assert.match(error.result.stdoutText ?? "", /^\d+\n$/);
      return true;
    });
    await appears("up");
    controller.abort("enough");
    await failed;
  });

  test("sh() with noThrow() returns it", async () => {
    const controller = new AbortController();
    const child = await sandbox.sh`bash -c ${leaveBehind("echo > second; exec sleep 600")}`
      .stdout("piped")
      .noThrow()
      .signal(controller.signal)
      .spawn();
    await appears("second");
    controller.abort();
    const { status, stdoutText } = await child.output();
    assert.deepEqual([status.code, status.signal], [143, "SIGTERM"]);
    assert.match(stdoutText ?? "", /^\d+\n$/);
  });

  test("a KillController ends the wait for what is left behind as well", async () => {
    const controller = new KillController();
    const child = await sandbox.sh`bash -c ${leaveBehind("echo > third; exec sleep 600")}`
      .stdout("piped")
      .signal(controller.signal)
      .spawn();
    await appears("third");
    controller.kill("SIGINT");
    assert.equal((await child.output()).status.signal, "SIGINT");
  });

  test("the stream of a spawned process ends, also when the process itself has ended before", async () => {
    for (const then of ["exit 0", "exec sleep 600"]) {
      const controller = new AbortController();
      const { signal } = controller;
      const args = ["-c", leaveBehind(then)];
      const child = await sandbox.spawn("bash", { args, stdout: "piped", stderr: "inherit", signal });
      await firstLine(child.stdout);
      if (then === "exit 0") await child.status;
      controller.abort();
      const { status, stdoutText } = await child.output();
      assert.equal(stdoutText, "");
      assert.equal(status.signal, then === "exit 0" ? null : "SIGTERM");
    }
  });

  test("leaving the scope of a process lets its output go", async () => {
    let rest: ReadableStream<Uint8Array> | null = null;
    {
      await using child = await sandbox.spawn("bash", { args: ["-c", leaveBehind("exec sleep 600")], stdout: "piped" });
      await firstLine(child.stdout);
      rest = child.stdout;
    }
    assert.deepEqual(await Array.fromAsync(rest ?? []), []);
  });

  /** Waits until the process whose pid is in this file has ended. */
  const isGone = (file: string) =>
    poll(`the process of ${file} is gone`, async () => {
      const { status } = await sandbox.sh`kill -0 $(cat ${file})`.stderr("null").noThrow();
      return !status.success;
    });

  test("an evaluation that never ends rejects with the signal's reason, and its REPL is gone", async () => {
    const controller = new AbortController();
    const code = "Deno.writeTextFileSync('repl', String(Deno.pid)); for (;;);";
    const failed = assert.rejects(sandbox.deno.eval(code, { signal: controller.signal }), /enough/);
    await appears("repl");
    controller.abort(new Error("enough"));
    await failed;
    await isGone("repl");
  });

  test("a terminal whose opening is aborted is taken away", async () => {
    await sandbox.fs.mkdir("bin");
    await sandbox.fs.writeTextFile("bin/script", "#!/bin/sh\necho $$ > script\nexec sleep 600\n", { mode: 0o755 });
    const controller = new AbortController();
    const env = { PATH: `${gateway.home}/bin:${await sandbox.env.get("PATH")}` };
    const failed = assert.rejects(sandbox.terminal({ env, signal: controller.signal }), /enough/);
    await appears("script");
    controller.abort(new Error("enough"));
    await failed;
    await isGone("script");
  });
});

test("a process that ignores SIGTERM is killed after five seconds", async (context) => {
  const ended = Promise.withResolvers<object>();
  const signals: unknown[] = [];
  await using fake = await FakeSandbox.start({
    ...RUNNING_PROCESS,
    processWait: () => ended.promise,
    processKill: ({ signal }) => {
      signals.push(signal);
      if (signal === "SIGKILL") ended.resolve({ success: false, code: 137, signal, oom: null });
      return null;
    },
  });
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const controller = new AbortController();
  const child = await sandbox.spawn("stubborn", { stdout: "piped", signal: controller.signal });
  controller.abort();
  context.mock.timers.tick(4_999);
  await new Promise((resolve) => setImmediate(resolve));
  context.mock.timers.tick(1);
  assert.equal((await child.status).signal, "SIGKILL");
  assert.deepEqual(signals, ["SIGTERM", "SIGKILL"]);
  context.mock.timers.reset();
});

test("calls that wait for the sandbox reject at once with the reason, and what they still bring is let go", async () => {
  const answer = Promise.withResolvers<void>();
  const late = (ok: object) => async () => {
    await answer.promise;
    return ok;
  };
  await using fake = await FakeSandbox.start({
    spawn: late({ pid: 7, stdoutStreamId: 40, stderrStreamId: 41 }),
    vscode: late({ pid: 9, port: 4000, stdoutStreamId: 43, stderrStreamId: 44 }),
    open: late({ fileHandleId: 3 }),
    walk: late({ streamId: 42 }),
  });
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  const controller = new AbortController();
  const { signal } = controller;
  const calls = [
    sandbox.spawn("a", { stdin: "piped", signal }),
    sandbox.exposeVscode("/a", { signal }),
    sandbox.fs.open("a", { signal }),
    sandbox.fs.walk("a", { signal }).next(),
    sandbox.env.get("A", { signal }),
    sandbox.extendTimeout("5m", { signal }),
  ];
  const command = sandbox.sh`sleep 1`.signal(signal).text();
  controller.abort(new Error("enough"));
  for (const call of calls) await assert.rejects(call, /enough/);
  await assert.rejects(command, { name: "SandboxCommandError", code: 143, cause: signal.reason });
  answer.resolve();
  const sent = (method: string) => fake.received.filter((message) => message.method === method);
  await poll("both processes and the editor are killed", () => sent("processKill").length === 3);
  const killed = sent("processKill").map(({ params: { pid, vscode = false } }) => [pid, vscode]);
  assert.deepEqual(killed.sort(), [
    [7, false],
    [7, false],
    [9, true],
  ]);
  await poll("the file is closed", () => sent("fileClose").length === 1);
  const cancelled = () =>
    sent("$sandbox.stream.cancel")
      .map(({ params }) => params.streamId)
      .sort();
  await poll("their streams are cancelled", () => cancelled().length === 7);
  assert.deepEqual(cancelled(), [40, 40, 41, 41, 42, 43, 44]);
});

suite("an aborted creation", () => {
  /** A server that answers the upgrade with these bytes and records what happens. */
  async function serve(
    reply: string,
  ): Promise<AsyncDisposable & { readonly endpoint: string; readonly sockets: Socket[] }> {
    const sockets: Socket[] = [];
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on("error", () => undefined);
      socket.once("data", () => socket.write(reply));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return {
      endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      sockets,
      async [Symbol.asyncDispose]() {
        server.close();
        await once(server, "close");
      },
    };
  }

  for (const [moment, reply] of [
    ["before anything is answered", ""],
    ["in the middle of the answer", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"],
  ] as const) {
    test(`${moment} closes the connection at once, without a word that could count as a sign of use`, async () => {
      await using server = await serve(reply);
      const controller = new AbortController();
      const options = { token: "ddo_x", apiEndpoint: server.endpoint, signal: controller.signal };
      const creation = Sandbox.create({ ...options, timeout: "5m" });
      const failed = assert.rejects(creation, /enough/);
      await poll("the request is there", () => (server.sockets[0]?.bytesRead ?? 0) > 0);
      const bytes = server.sockets[0]?.bytesRead;
      controller.abort(new Error("enough"));
      await failed;
      await poll("the connection is closed", () => server.sockets.every(({ destroyed }) => destroyed));
      assert.equal(server.sockets.length, 1);
      assert.equal(server.sockets[0]?.bytesRead, bytes);
    });
  }

  test("while the sandbox is prepared ends the sandbox before it rejects", async () => {
    await using fake = await FakeSandbox.start({ exposeHttp: NEVER });
    const controller = new AbortController();
    const creation = Sandbox.create({ ...fake.options, timeout: "5m", port: 80, signal: controller.signal });
    const failed = assert.rejects(creation, /enough/);
    await poll("the preparation waits", () => fake.received.some(({ method }) => method === "exposeHttp"));
    controller.abort(new Error("enough"));
    await failed;
    assert.deepEqual(fake.questions, ["DELETE /api/v3/sandbox/sbx_ord_0123456789abcdefghjk"]);
    assert.notEqual(fake.socket.readyState, fake.socket.OPEN);
  });

  test("in the moment of the answer ends the sandbox too", async () => {
    await using fake = await FakeSandbox.start();
    const controller = new AbortController();
    const options = { ...fake.options, timeout: "5m", signal: controller.signal } as const;
    // The getter of the port is read right behind the opening of the connection.
    const creation = Sandbox.create({
      ...options,
      get ssh() {
        controller.abort(new Error("enough"));
        return false;
      },
    });
    await assert.rejects(creation, /enough/);
    await poll("the sandbox is ended", () => fake.questions.some((question) => question.startsWith("DELETE ")));
  });
});
