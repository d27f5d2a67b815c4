import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { CAISSON, finish, runCaisson, startCaisson } from "./support/run-caisson.ts";
import { pipeThroughSlowReader } from "./support/slow-reader.ts";
import { TestServer } from "./support/test-server.ts";

let server: TestServer;
let sandbox: string;
before(async () => {
  server = await TestServer.start();
  sandbox = await server.succeed("create", "--timeout", "20m");
});
after(() => server[Symbol.asyncDispose]());

test("exec passes input, both outputs and the exit code, and takes options on either side of the id", async () => {
  const both = await server.run(["exec", sandbox, "cat; echo problem >&2; exit 7"], "through\n");
  assert.deepEqual(both, { stdout: "through\n", stderr: "problem\n", code: 7 });
  assert.equal(await server.succeed("exec", "--cwd", "/tmp", sandbox, "pwd"), "/tmp");
  assert.equal(await server.succeed("exec", sandbox, "--cwd=/usr", "pwd"), "/usr");
  assert.equal(await server.succeed("exec", sandbox, "--", "echo", "--quiet"), "--quiet");
});

test("exec reads the id from SANDBOX_ID, and the words from there on are the command's", async () => {
  const environment = { ...server.environment, SANDBOX_ID: sandbox };
  assert.equal((await runCaisson(["exec", "echo", "-n", "--json"], environment)).stdout, "--json");
  const { stdout, code } = await runCaisson(["extend", "20m", "--quiet"], environment);
  assert.equal(code, 0);
  assert.ok(Date.parse(stdout.trim()) > Date.now() + 19 * 60_000, stdout);
  const none = await server.run(["exec", "ls"]);
  assert.equal(none.code, 125);
  assert.equal(
    none.stderr,
    'error: Not a sandbox id: "ls"\nhint: List sandboxes with `caisson list`, or set SANDBOX_ID.\n',
  );
});

test("exec in JSON mode prints one object with both outputs", async () => {
  const { stdout, stderr, code } = await server.run(["exec", "--json", sandbox, "echo out; echo err >&2; kill -9 $$"]);
  assert.deepEqual(JSON.parse(stdout), {
    success: false,
    code: 137,
    signal: "SIGKILL",
    oom: false,
    stdout: "out\n",
    stderr: "err\n",
  });
  assert.deepEqual({ stderr, code }, { stderr: "", code: 137 });
});

test("signals reach the program, which decides what they mean", async () => {
  const child = startCaisson(
    ["exec", sandbox, "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"],
    server.environment,
  );
  child.stdout.once("data", () => child.kill("SIGTERM"));
  // Bash may also say that its own child was terminated.
  const { stdout, code } = await finish(child);
  assert.deepEqual({ stdout, code }, { stdout: "ready\ncaught\n", code: 5 });
});

test("the second interrupt kills a program that ignores the first, and ends the wait for it", async () => {
  const child = startCaisson(
    ["exec", sandbox, "trap 'echo no' INT; echo ready; while :; do sleep 0.05; done; : caisson-test-$((40 + 3))"],
    server.environment,
  );
  child.stdout.on("data", () => child.kill("SIGINT"));
  const { code } = await finish(child);
  assert.equal(code, 130);
  assert.equal(await server.succeed("exec", sandbox, "pgrep -c -f '[c]aisson-test-' || true"), "0");
});

test("a program whose reader goes away is told so, as a local one is", async () => {
  const child = startCaisson(["exec", sandbox, "yes caisson-test-$((40 + 2))"], server.environment);
  child.stdout.once("data", () => child.stdout.destroy());
  const [code] = await once(child, "exit");
  assert.equal(code, 141);
  assert.equal(await server.succeed("exec", sandbox, "pgrep -c -f '[c]aisson-test-42' || true"), "0");
});

test("large input and output pass unchanged", async () => {
  const data = randomBytes(20_000_000);
  const sum = createHash("sha256").update(data).digest("hex");
  const { stdout } = await server.run(["exec", sandbox, "tee /tmp/large | sha256sum"], data);
  assert.equal(stdout, `${sum}  -\n`);
  const child = startCaisson(["exec", sandbox, "cat /tmp/large"], server.environment);
  child.stdin.end();
  const hash = createHash("sha256");
  for await (const chunk of child.stdout) hash.update(chunk);
  assert.equal(hash.digest("hex"), sum);
});

test("a reader that is slow gets everything, on either output, and also of a command of create", async () => {
  const lines = "seq 1 30000";
  const read = (words: readonly string[], output?: "stderr") =>
    pipeThroughSlowReader(words, server.environment, output);
  assert.deepEqual(await read(["exec", sandbox, lines]), { lines: 30_000, last: "30000", code: 0 });
  assert.deepEqual(await read(["exec", sandbox, `${lines} >&2; exit 3`], "stderr"), {
    lines: 30_000,
    last: "30000",
    code: 3,
  });
  assert.deepEqual(await read(["create", lines]), { lines: 30_000, last: "30000", code: 0 });
  const json = await read(["exec", "--json", sandbox, lines]);
  assert.deepEqual(JSON.parse(json.last).stdout.split("\n").length, 30_001);
  const created = await read(["create", "--timeout", "5m", lines]);
  assert.equal(created.lines, 30_001);
  assert.match(created.last, /^sbx_ord_/);
  await server.succeed("kill", created.last);
});

test("a program in the background that holds the output keeps exec waiting, and a signal ends it at once", async () => {
  for (const [signal, code] of [
    ["SIGTERM", 143],
    ["SIGHUP", 129],
    ["SIGINT", 130],
  ] as const) {
    const child = startCaisson(["exec", sandbox, "setsid sleep 600 & echo $$"], server.environment);
    const [pid] = await once(child.stdout, "data");
    // Only when the program itself has ended is the signal not its own.
    await server.succeed("exec", sandbox, `while kill -0 ${String(pid).trim()} 2>/dev/null; do sleep 0.02; done`);
    child.kill(signal);
    assert.deepEqual([signal, (await finish(child)).code], [signal, code]);
  }
});

test("a program that ends as it was asked to ends exec, although another one in the background holds the output", async () => {
  const child = startCaisson(
    ["exec", sandbox, "trap 'exit 9' TERM; setsid sleep 600 & echo ready; while :; do sleep 0.05; done"],
    server.environment,
  );
  child.stdout.once("data", () => child.kill("SIGTERM"));
  assert.equal((await finish(child)).code, 9);
});

test("one word is a line for the shell; several words, or one behind --, are a program and its arguments", async () => {
  const exec = async (...words: readonly string[]) => (await server.run(["exec", ...words])).stdout;
  assert.equal(await exec(sandbox, "echo a   b; echo $HOME"), "a b\n/home/app\n");
  assert.equal(await exec(sandbox, "sh", "-c", "echo a   b"), "a b\n");
  assert.equal(await exec(sandbox, "printf", "%s.", "a  b", "$HOME", "*"), "a  b.$HOME.*.");
  assert.equal(await exec(sandbox, "--", "printf", "%s.", "--", "-n"), "--.-n.");
  assert.equal(await exec(sandbox, "printf", "%s.", "--", "x"), "--.x.");
  const separated = await runCaisson(["exec", "--", "printf", "--json"], {
    ...server.environment,
    SANDBOX_ID: sandbox,
  });
  assert.equal(separated.stdout, "--json");
  assert.equal((await server.run(["exec", sandbox, "--", "echo a"])).code, 127);
  assert.equal((await server.run(["create", "sh", "-c", "exit $((40 + 2))"])).code, 42);
  assert.equal((await server.run(["create", "--", "sh -c true"])).code, 127);
});

test("failures of exec itself have codes that programs do not use", async () => {
  const cases: readonly (readonly [words: readonly string[], code: number, message: string])[] = [
    [["--nope", sandbox, "true"], 125, "Unknown option '--nope'"],
    [[sandbox], 125, "No command given"],
    [["sbx_nope", "true"], 125, 'Invalid sandbox id "sbx_nope"'],
    [[`sbx_ord_${"0".repeat(20)}`, "true"], 125, `There is no running sandbox "sbx_ord_${"0".repeat(20)}"`],
    [["--token", "ddo_wrong", sandbox, "true"], 125, "The token is not valid, or it was revoked"],
    [["--endpoint", "http://127.0.0.1:1", sandbox, "true"], 125, "Cannot reach http://127.0.0.1:1: "],
    [["-t", sandbox, "true"], 125, "Cannot give the program a terminal: input or output is not one"],
    [[sandbox, "--", "/etc/hostname"], 126, 'Cannot run "/etc/hostname": permission denied'],
    [["--cwd", "/nope", sandbox, "true"], 126, 'There is no directory "/nope" in the sandbox'],
    [[sandbox, "--", "nope"], 127, 'There is no program "nope" in the sandbox'],
  ];
  for (const [words, code, message] of cases) {
    const result = await server.run(["exec", ...words]);
    assert.deepEqual([words, result.code, result.stdout], [words, code, ""]);
    assert.ok(result.stderr.startsWith(`error: ${message}`), result.stderr);
  }
  assert.equal((await server.run(["create", "--volume", "absent:/data", "true"])).code, 125);
  assert.equal((await server.run(["create", "--volume", "absent:/data"])).code, 4);
});

test("an output that is full is said in plain words", async () => {
  const words = [...CAISSON, "exec", sandbox, "echo x"].map((word) => `'${word}'`).join(" ");
  const { status, stderr } = spawnSync("sh", ["-c", `${words} > /dev/full`], {
    env: { PATH: process.env.PATH ?? "", ...server.environment },
    encoding: "utf8",
  });
  assert.equal(stderr, "error: Cannot write the output: the disk is full. Make room there, or take another one\n");
  assert.equal(status, 125);
});

test("when the sandbox ends, exec says when and why", async () => {
  const id = await server.succeed("create", "--timeout", "5m");
  const child = startCaisson(["exec", id, "echo ready; sleep 600"], server.environment);
  const finished = finish(child);
  await once(child.stdout, "data");
  await server.succeed("kill", id);
  const { stderr, code } = await finished;
  assert.equal(code, 125);
  assert.match(
    stderr,
    new RegExp(`^error: Sandbox ${id} ended (just now|at [-\\d]+ [:.\\d]+ UTC): somebody ended it\nhint: `),
  );
});
