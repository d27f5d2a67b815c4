import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { useAgent } from "../../tests/agent-fixture.ts";
import { eventually } from "../../tests/eventually.ts";
import { RpcClient } from "../../tests/rpc-client.ts";

const fixture = useAgent();

interface Spawned {
  readonly pid: number;
  readonly stdoutStreamId: number;
  readonly stderrStreamId: number;
}

interface Ended {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: {
    readonly success: boolean;
    readonly code: number;
    readonly signal: string | null;
    readonly oom: string | null;
  };
}

async function spawn(
  command: string,
  args: readonly string[] = [],
  params: object = {},
  client = fixture.client,
): Promise<Spawned> {
  return (await client.ok("spawn", { command, args, stdout: "piped", stderr: "piped", ...params })) as Spawned;
}

async function finish({ pid, stdoutStreamId, stderrStreamId }: Spawned): Promise<Ended> {
  const { client } = fixture;
  const status = (await client.ok("processWait", { pid })) as Ended["status"];
  const [stdout, stderr] = await Promise.all([client.chunks(stdoutStreamId), client.chunks(stderrStreamId)]);
  return { stdout: String(Buffer.concat(stdout)), stderr: String(Buffer.concat(stderr)), status };
}

async function run(command: string, args: readonly string[] = [], params: object = {}): Promise<Ended> {
  return await finish(await spawn(command, args, params));
}

let nextInput = 100;
function startInput(client = fixture.client): number {
  nextInput += 1;
  client.notify("$sandbox.stream.start", { streamId: nextInput });
  return nextInput;
}

function sendInput(streamId: number, data: string | Buffer, client = fixture.client): void {
  client.notify("$sandbox.stream.enqueue", { streamId, data: Buffer.from(data).toString("base64") });
}

function isAlive(osPid: number): boolean {
  try {
    return !readFileSync(`/proc/${osPid}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
}

test("standard output and error come apart and whole, and the status says how it ended", async () => {
  assert.deepEqual(await run("sh", ["-c", "echo out; echo err >&2; exit 42"]), {
    stdout: "out\n",
    stderr: "err\n",
    status: { success: false, code: 42, signal: null, oom: null },
  });
});

test("a process killed by a signal has 128 and the signal's number, real-time signals included", async () => {
  for (const [signal, code] of [
    ["TERM", 143],
    ["KILL", 137],
    ["INT", 130],
    ["SEGV", 139],
    ["USR1", 138],
  ] as const) {
    const { status } = await run("sh", ["-c", `kill -${signal} $$`]);
    assert.deepEqual(status, { success: false, code, signal: `SIG${signal}`, oom: null });
  }
  const { status } = await run("sh", ["-c", "kill -34 $$"]);
  assert.deepEqual([status.code, status.signal], [162, "SIGRTMIN"]);
});

test("the environment is the sandbox's with the call's on top, or only the call's, and never the agent's own", async () => {
  const { client } = fixture;
  await client.ok("envSet", { key: "SHARED", value: "sandbox" });
  await client.ok("envSet", { key: "KEPT", value: "1" });
  const merged = await run("env", [], { env: { SHARED: "call" } });
  assert.match(merged.stdout, /^SHARED=call$/m);
  assert.match(merged.stdout, /^KEPT=1$/m);
  assert.doesNotMatch(merged.stdout, /CAISSON/);
  const cleared = await run("env", [], { env: { ONLY: "this" }, clearEnv: true });
  assert.equal(cleared.stdout, "ONLY=this\n");
  await client.ok("envDelete", { key: "KEPT" });
  assert.doesNotMatch((await run("env")).stdout, /^KEPT=/m);
});

test("a command is looked up on the PATH of the call, then of the sandbox, also when the environment is cleared", async () => {
  const { directory } = fixture;
  await writeFile(join(directory, "tool"), "#!/bin/sh\necho found\n", { mode: 0o755 });
  assert.equal((await run("tool", [], { env: { PATH: `${directory}:/usr/bin:/bin` } })).stdout, "found\n");
  assert.equal((await run("./tool", [], { cwd: directory })).stdout, "found\n");
  assert.equal((await run("true", [], { clearEnv: true })).status.code, 0);
});

test("the default directory is the home directory, and relative ones start there", async () => {
  const { agent, directory, name } = fixture;
  assert.equal((await run("pwd")).stdout, `${agent.home}\n`);
  assert.equal((await run("pwd", [], { cwd: name })).stdout, `${directory}\n`);
});

test("a program that cannot start is an error with its errno and not an exit code", async () => {
  const { client, directory } = fixture;
  await writeFile(join(directory, "plain"), "text");
  await mkdir(join(directory, "folder"));
  const refusals: [object, string, string][] = [
    [{ command: "no-such-program" }, "NotFound", "ENOENT"],
    [{ command: "/no/such/program" }, "NotFound", "ENOENT"],
    [{ command: "" }, "NotFound", "ENOENT"],
    [{ command: join(directory, "plain") }, "PermissionDenied", "EACCES"],
    [{ command: join(directory, "folder") }, "PermissionDenied", "EACCES"],
    [{ command: "true", cwd: "/no/such/directory" }, "NotFound", "ENOENT"],
    [{ command: "true", cwd: join(directory, "plain") }, "NotADirectory", "ENOTDIR"],
    [{ command: "true", args: ["x".repeat(4_000_000)] }, "Error", "E2BIG"],
    [{ command: "a\0b" }, "InvalidData", "EINVAL"],
    [{ command: "true", env: { "A=B": "1" } }, "InvalidData", "EINVAL"],
    [{ command: "true", env: { LONG: "x".repeat(128 * 1024) } }, "Error", "E2BIG"],
  ];
  for (const [params, constructorName, code] of refusals) {
    const error = await client.failure("spawn", { args: [], stdout: "piped", stderr: "piped", ...params });
    assert.deepEqual([error.constructorName, error.code], [constructorName, code], JSON.stringify(params).slice(0, 80));
    assert.ok(error.message.length > 0);
  }
  // Accepted once, it would keep every later program from starting.
  const refused = await client.failure("envSet", { key: "LONG", value: "x".repeat(128 * 1024) });
  assert.equal(refused.code, "E2BIG");
  assert.match(refused.message, /"LONG": it has 131077 bytes/);
  await client.ok("envSet", { key: "LONG", value: "x".repeat(128 * 1024 - "LONG=".length - 1) });
  assert.equal((await run("sh", ["-c", 'printf %s "$LONG" | wc -c'])).stdout.trim(), "131066");
  await client.ok("envDelete", { key: "LONG" });
  const quiet = { stdout: "null", stderr: "null" };
  const long = await client.failure("spawn", { command: "true", args: ["a", "x".repeat(2 ** 17)], ...quiet });
  assert.match(long.message, /\(os error 7\): start "true": argument 2 has 131072 bytes, .*standard input$/);
  const many = await client.failure("spawn", { command: "true", args: Array(300_000).fill("x"), ...quiet });
  assert.match(many.message, /\(os error 7\): start "true": its arguments take 3000000 bytes and its variables \d+, /);
  await chmod(join(directory, "plain"), 0o755);
});

test("variables that together would keep every program from starting are refused, and there is room again for what was deleted", async () => {
  const { client } = fixture;
  const value = "x".repeat(100_000);
  const keys = Array.from({ length: 10 }, (_, index) => `LARGE_${index}`);
  for (const key of keys) await client.ok("envSet", { key, value });
  for (const refusedValue of [value, "y".repeat(60_000)]) {
    const refused = await client.failure("envSet", { key: "ONE_MORE", value: refusedValue });
    assert.deepEqual([refused.constructorName, refused.code], ["Error", "E2BIG"]);
    assert.match(
      refused.message,
      /^Argument list too long \(os error 7\): set .*"ONE_MORE": .* at most 1048576 are possible/,
    );
  }
  assert.equal(await client.ok("envGet", { key: "ONE_MORE" }), null);
  assert.equal((await run("true")).status.code, 0);
  await client.ok("envSet", { key: "LARGE_0", value: "short" });
  await client.ok("envSet", { key: "ONE_MORE", value });
  for (const key of [...keys, "ONE_MORE", "ONE_MORE"]) await client.ok("envDelete", { key });
});

test("input reaches the process exactly, and its end too", async () => {
  const inputId = startInput();
  const { client } = fixture;
  const spawned = await spawn("cat", [], { stdinStreamId: inputId });
  const finished = finish(spawned);
  sendInput(inputId, "one ");
  sendInput(inputId, "");
  sendInput(inputId, Buffer.alloc(300_000, "x"));
  client.notify("$sandbox.stream.end", { streamId: inputId });
  const { stdout, status } = await finished;
  assert.equal(stdout, `one ${"x".repeat(300_000)}`);
  assert.equal(status.code, 0);
});

test("without an input stream a process reads nothing", async () => {
  assert.deepEqual((await run("cat")).stdout, "");
});

test("the client is told to stop sending when the process stops reading or ends", async () => {
  const { client } = fixture;
  const cancelled = (streamId: number) =>
    client.until(() => client.stream(streamId).find(({ kind }) => kind === "cancel"), `a cancel of stream ${streamId}`);
  const endedId = startInput();
  await run("true", [], { stdinStreamId: endedId });
  assert.equal((await cancelled(endedId)).frame.params?.reason, null);
  const closedId = startInput();
  const { pid } = await spawn("sh", ["-c", "exec <&-; sleep 60"], { stdinStreamId: closedId });
  await eventually("the process has closed its input", () => !existsSync(`/proc/${pid}/fd/0`));
  for (let index = 0; index < 4; index += 1) sendInput(closedId, Buffer.alloc(100_000));
  await cancelled(closedId);
  await client.ok("processKill", { pid, signal: "SIGKILL" });
});

test("a process whose input never starts is refused, and its stream id is named", async () => {
  const error = await fixture.client.failure("spawn", {
    command: "cat",
    stdinStreamId: 999_999,
    stdout: "null",
    stderr: "null",
  });
  assert.equal(error.constructorName, "BadResource");
  assert.match(error.message, /999999/);
});

test("terminating signals go to the whole group, others only to the process", async () => {
  const { client, directory } = fixture;
  const pidFile = join(directory, "pid");
  const script = `trap 'echo usr1' USR1; sleep 300 & echo $! > ${pidFile}; while :; do wait; done`;
  const spawned = await spawn("sh", ["-c", script]);
  const finished = finish(spawned);
  await eventually("the child runs", () => existsSync(pidFile) && readFileSync(pidFile, "utf8") !== "");
  const child = Number(readFileSync(pidFile, "utf8"));
  await client.ok("processKill", { pid: spawned.pid, signal: "SIGUSR1" });
  await client.until(() => client.stream(spawned.stdoutStreamId).find(({ kind }) => kind === "enqueue"), "the trap");
  assert.ok(isAlive(child), "SIGUSR1 ended the child");
  await client.ok("processKill", { pid: spawned.pid });
  const { status, stdout } = await finished;
  assert.deepEqual([stdout, status.signal], ["usr1\n", "SIGTERM"]);
  await eventually("the child is gone", () => !isAlive(child));
});

test("a signal to an ended or unknown process is the error that both clients recognise", async () => {
  const { client } = fixture;
  const ended = await spawn("true");
  await finish(ended);
  for (const pid of [ended.pid, 3_999_999, -1, 0]) {
    const error = await client.failure("processKill", { pid });
    assert.deepEqual([error.constructorName, error.code], ["TypeError", "ENOENT"]);
  }
  const running = await spawn("sleep", ["60"]);
  const unknown = await client.failure("processKill", { pid: running.pid, signal: "SIGNOPE" });
  assert.deepEqual([unknown.constructorName, unknown.code], ["TypeError", null]);
  const editor = await client.failure("processKill", { pid: running.pid, vscode: true });
  assert.deepEqual([editor.constructorName, editor.code], ["TypeError", "ENOENT"], "editors have pids of their own");
  await client.ok("processKill", { pid: running.pid, signal: "SIGKILL" });
});

test("processWait may be repeated, also after the exit, and an unknown pid is an error", async () => {
  const { client } = fixture;
  const spawned = await spawn("sh", ["-c", "exit 3"]);
  const [first, second] = await Promise.all([1, 2].map(() => client.ok("processWait", { pid: spawned.pid })));
  assert.deepEqual(first, { success: false, code: 3, signal: null, oom: null });
  assert.deepEqual(second, first);
  assert.deepEqual(await client.ok("processWait", { pid: spawned.pid }), first);
  assert.equal((await client.failure("processWait", { pid: 3_999_999 })).code, "ENOENT");
});

test("output streams stay open while grandchildren hold the pipe, and processWait does not wait for them", async () => {
  const { client, directory } = fixture;
  const go = join(directory, "go");
  const script = `(while [ ! -e ${go} ]; do sleep 0.01; done; echo late) & echo early`;
  const spawned = await spawn("sh", ["-c", script]);
  const status = (await client.ok("processWait", { pid: spawned.pid })) as Ended["status"];
  assert.equal(status.code, 0);
  await client.until(
    () => client.stream(spawned.stdoutStreamId).find(({ kind }) => kind === "enqueue"),
    "early output",
  );
  assert.ok(!client.stream(spawned.stdoutStreamId).some(({ kind }) => kind === "end"));
  await writeFile(go, "");
  assert.equal(String(Buffer.concat(await client.chunks(spawned.stdoutStreamId))), "early\nlate\n");
});

test("a process outlives its connection: input ends, output goes nowhere, another connection waits for it", async () => {
  const { agent, client, directory } = fixture;
  const result = join(directory, "result");
  const leaving = await RpcClient.connect(agent.socketPath);
  const inputId = startInput(leaving);
  const script = `cat > ${result}.in; head -c 5000000 /dev/zero; echo done > ${result}; exit 7`;
  const { pid } = await spawn("sh", ["-c", script], { stdinStreamId: inputId }, leaving);
  sendInput(inputId, "kept", leaving);
  await eventually(
    "the input has arrived",
    () => existsSync(`${result}.in`) && readFileSync(`${result}.in`, "utf8") === "kept",
  );
  await leaving.close();
  const status = (await client.ok("processWait", { pid })) as Ended["status"];
  assert.equal(status.code, 7);
  assert.equal(readFileSync(result, "utf8"), "done\n");
});

test("each process leads a session of its own and is a preferred victim when memory runs out, unlike the agent", async () => {
  const { agent } = fixture;
  const { stdout } = await run("sh", ["-c", "cut -d' ' -f5,6 /proc/$$/stat; echo $$; cat /proc/$$/oom_score_adj"]);
  const [group, session, pid, score] = stdout.trim().split(/\s+/);
  assert.deepEqual([group, session], [pid, pid]);
  assert.equal(score, "1000");
  const ownScore = Number(readFileSync(`/proc/${agent.process.pid}/oom_score_adj`, "utf8"));
  assert.ok(ownScore < 1000, `the agent has ${ownScore}`);
});

test("five megabytes stream completely and in order", async () => {
  const { stdout, status } = await run("seq", ["1", "700000"]);
  assert.equal(status.code, 0);
  const lines = stdout.trimEnd().split("\n");
  assert.equal(lines.length, 700_000);
  assert.ok(lines.every((line, index) => line === String(index + 1)));
});

test("processes leave no descriptors, zombies or timers behind, and each has a pid of its own", async () => {
  const { agent, client } = fixture;
  const { pid: agentPid } = agent.process;
  const descriptors = () => readdirSync(`/proc/${agentPid}/fd`).length;
  await run("true");
  const before = descriptors();
  const pids = new Set<number>();
  for (let round = 0; round < 30; round += 1) {
    const ended = await Promise.all(Array.from({ length: 20 }, () => spawn("true")));
    for (const spawned of ended) pids.add(spawned.pid);
    const outcomes = await Promise.all(ended.map(finish));
    assert.ok(outcomes.every(({ status }) => status.code === 0));
  }
  assert.equal(pids.size, 600);
  await eventually("descriptors are closed", () => descriptors() <= before);
  const children = readFileSync(`/proc/${agentPid}/task/${agentPid}/children`, "utf8").trim();
  assert.equal(children, "");
  assert.equal((await client.failure("processKill", { pid: [...pids][0] })).code, "ENOENT");
});
