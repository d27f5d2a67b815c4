import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeSandbox } from "../../tests/fake-sandbox.ts";
import { poll } from "../../tests/poll.ts";
import { KillController, Sandbox, SandboxCommandError } from "../index.ts";

interface Answers {
  readonly stdout?: string;
  readonly stderr?: string;
  readonly code?: number;
  readonly oom?: string;
}

/** A sandbox in which every process writes and exits as given. */
async function start({ stdout = "", stderr = "", code = 0, oom }: Answers = {}) {
  const fake = await FakeSandbox.start({
    spawn: (params) => ({
      pid: 1,
      stdoutStreamId: params.stdout === "null" ? null : 1,
      stderrStreamId: params.stderr === "null" ? null : 2,
    }),
    processWait: (_params, sandbox) => {
      for (const [id, text] of [
        [1, stdout],
        [2, stderr],
      ] as const) {
        sandbox.notify("start", { streamId: id });
        if (text !== "") sandbox.chunk(id, text);
        sandbox.notify("end", { streamId: id });
      }
      return { success: code === 0, code, signal: null, oom: oom ?? null };
    },
  });
  const sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  const spawned = () => fake.received.find(({ method }) => method === "spawn")?.params;
  return {
    fake,
    sandbox,
    spawned,
    [Symbol.asyncDispose]: async () => {
      await sandbox.close();
      await fake[Symbol.asyncDispose]();
    },
  };
}

test("all modifiers of a chain take effect", async () => {
  await using context = await start({ stdout: "out", stderr: "err", code: 3 });
  const { sandbox, spawned } = context;
  const command = sandbox.sh`ls ${"a b"}`.sudo().cwd("/x").env("A", "1").env("B", "2").noThrow().stderr("piped");
  assert.equal(await command.text(), "out", "noThrow holds for text() as well");
  assert.deepEqual(spawned(), {
    command: "bash",
    args: ["-c", "sudo ls 'a b'"],
    env: { BASH_ENV: "$HOME/.bashrc", A: "1", B: "2" },
    cwd: "/x",
    stdout: "piped",
    stderr: "piped",
  });
});

test("a modifier leaves the command that it was called on as it is", async () => {
  await using context = await start({ code: 1 });
  const command = context.sandbox.sh`false`.stdout("null").stderr("null");
  assert.equal((await command.noThrow()).status.code, 1);
  await assert.rejects(command.result(), SandboxCommandError);
});

test("a failure carries the code and the piped error output, but never the command", async () => {
  await using context = await start({ stderr: "no such file\n", code: 42 });
  const secret = "s3cret";
  const error = await context.sandbox.sh`login ${secret}`
    .stderr("piped")
    .stdout("piped")
    .then(null, (e) => e);
  assert.ok(error instanceof SandboxCommandError);
  assert.equal(error.code, 42);
  assert.equal(error.message, "Command failed with exit code 42\nno such file\n");
  assert.doesNotMatch(String(error.stack), /s3cret/);
});

test("a command that ran out of memory says so", async () => {
  await using context = await start({ code: 137, oom: "high-confidence" });
  const { sandbox } = context;
  await assert.rejects(
    sandbox.sh`node`.stdout("null").stderr("null").result(),
    /exit code 137 \(the sandbox ran out of memory\)/,
  );
});

test("output that is not JSON is shown in the error", async () => {
  await using context = await start({ stdout: "plain" });
  await assert.rejects(context.sandbox.sh`cat`.stderr("null").json(), /as JSON: "plain"/);
});

test("values that are no words fail the run and not the template", async () => {
  await using context = await start();
  const command = context.sandbox.sh`echo ${{ a: 1 }}`;
  await assert.rejects(command.result(), TypeError);
  assert.equal(context.spawned(), undefined);
});

test("signals of several controllers reach the command until it has ended", async () => {
  let finish: (status: object) => void = () => undefined;
  await using fake = await FakeSandbox.start({
    spawn: () => ({ pid: 1, stdoutStreamId: null, stderrStreamId: null }),
    processWait: () =>
      new Promise((resolve) => {
        finish = resolve;
      }),
  });
  await using sandbox = await Sandbox.create({ ...fake.options, timeout: "1m" });
  const kill = new KillController();
  const abort = new AbortController();
  const running = sandbox.sh`sleep 100`
    .stdout("null")
    .stderr("null")
    .noThrow()
    .signal(kill.signal)
    .signal(abort.signal)
    .result();
  const signals = () =>
    fake.received.filter(({ method }) => method === "processKill").map(({ params }) => params.signal);
  await poll("the command runs", () => fake.received.some(({ method }) => method === "processWait"));
  kill.kill("SIGUSR1");
  abort.abort();
  kill.kill("SIGKILL");
  await poll("the signals arrived", () => signals().length === 3);
  assert.deepEqual(signals(), ["SIGUSR1", "SIGTERM", "SIGKILL"]);
  finish({ success: false, code: 137, signal: "SIGKILL", oom: null });
  assert.equal((await running).status.signal, "SIGKILL");
  kill.kill("SIGINT");
  assert.equal(await sandbox.env.get("A"), undefined);
  assert.equal(signals().length, 3, "nobody is left to be signalled");
});

test("a command whose signal was aborted before is not started", async () => {
  await using context = await start();
  const kill = new KillController();
  kill.kill("SIGINT");
  await assert.rejects(context.sandbox.sh`true`.signal(kill.signal).result(), {
    name: "SandboxCommandError",
    code: 130,
  });
  const result = await context.sandbox.sh`true`.signal(AbortSignal.abort()).noThrow();
  assert.equal(result.status.code, 143);
  assert.equal(context.spawned(), undefined);
});

test("a kill signal passes on what it receives, and forgets who no longer listens", () => {
  const parent = new KillController();
  const child = new KillController();
  const heard: string[] = [];
  child.signal.addListener((signal) => heard.push(signal));
  const link = parent.signal.linkChild(child.signal);
  parent.kill("SIGUSR1");
  assert.deepEqual([parent.signal.aborted, parent.signal.abortedExitCode], [false, undefined]);
  parent.kill();
  assert.deepEqual([child.signal.aborted, child.signal.abortedExitCode], [true, 143]);
  link.unsubscribe();
  parent.kill("SIGKILL");
  assert.deepEqual(heard, ["SIGUSR1", "SIGTERM"]);
});
