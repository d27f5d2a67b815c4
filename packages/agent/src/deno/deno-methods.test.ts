import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { test } from "node:test";
import { useAgent } from "../../tests/agent-fixture.ts";
import { eventually } from "../../tests/eventually.ts";
import { RpcClient } from "../../tests/rpc-client.ts";

const at = useAgent();

interface Spawned {
  readonly pid: number;
  readonly stdoutStreamId: number;
  readonly stderrStreamId: number;
  readonly watcherId: string | null;
}

async function run(params: object): Promise<Spawned> {
  return (await at.client.ok("spawnDeno", { stdout: "piped", stderr: "piped", ...params })) as Spawned;
}

async function text(streamId: number): Promise<string> {
  return Buffer.concat(await at.client.chunks(streamId)).toString();
}

/** Runs a program to its end. */
async function result(params: object): Promise<{ code: number; stdout: string; stderr: string }> {
  const { pid, stdoutStreamId, stderrStreamId } = await run(params);
  const { code } = (await at.client.ok("processWait", { pid })) as { code: number };
  return { code, stdout: await text(stdoutStreamId), stderr: await text(stderrStreamId) };
}

async function kill(pid: number): Promise<void> {
  await at.client.ok("processKill", { pid, signal: "SIGKILL" });
  await at.client.ok("processWait", { pid });
}

test("code runs with all permissions, its arguments and its output", async () => {
  const code =
    "console.log(JSON.stringify(Deno.args)); console.error(Deno.readTextFileSync('/proc/self/stat').length > 0, Deno.env.get('A')); Deno.exit(3);";
  const {
    code: exitCode,
    stdout,
    stderr,
  } = await result({ code, extension: "ts", scriptArgs: ["a b", "--flag", "-x", "--"], env: { A: "1" } });
  assert.equal(exitCode, 3);
  assert.deepEqual(JSON.parse(stdout), ["a b", "--flag", "-x", "--"]);
  assert.equal(stderr, "true 1\n");
});

test("the answer has a null watcher and null streams where there are none", async () => {
  const spawned = await run({ code: "1", extension: "js", stdout: "null", stderr: "null" });
  assert.deepEqual(Object.keys(spawned).sort(), ["pid", "stderrStreamId", "stdoutStreamId", "watcherId"]);
  assert.deepEqual([spawned.stdoutStreamId, spawned.stderrStreamId, spawned.watcherId], [null, null, null]);
});

test("every extension means what Deno takes it for", async () => {
  const programs: readonly (readonly [extension: string, code: string])[] = [
    ["js", "console.log(typeof require)"],
    ["mjs", "console.log(typeof require, import.meta.main)"],
    ["cjs", "console.log(typeof require, require('node:path').sep)"],
    ["ts", "const a: number = 1; enum E { A = 2 } console.log(a + E.A)"],
    ["mts", "const a: number = 1; console.log(a)"],
    ["cts", "import path = require('node:path'); console.log(path.sep)"],
    ["jsx", "/** @jsx h */ const h = (tag) => tag; console.log(<b />)"],
    ["tsx", "/** @jsx h */ const h = (tag: string) => tag; console.log(<b />)"],
  ];
  const outputs = ["undefined\n", "undefined true\n", "function /\n", "3\n", "1\n", "/\n", "b\n", "b\n"];
  const results = await Promise.all(programs.map(([extension, code]) => result({ code, extension })));
  assert.deepEqual(
    results.map(({ stdout, stderr }) => stdout || stderr),
    outputs,
  );
  assert.equal((await result({ code: "const a: number = 1; console.log(a)" })).stdout, "1\n", "the default is ts");
});

test("code sees the files of its working directory, and leaves none behind", async () => {
  await writeFile(join(at.directory, "greeting.ts"), "export const greeting: string = 'hello';");
  const code =
    "import { greeting } from './greeting.ts'; console.log(greeting, (await import('./greeting.ts')).greeting, Deno.cwd());";
  const expected = `hello hello ${at.directory}\n`;
  assert.equal((await result({ code, extension: "ts", cwd: at.name })).stdout, expected);
  assert.equal((await result({ code, extension: "ts", cwd: at.directory })).stdout, expected);
  // More than fits into an argument.
  const long = `${code}\n// ${"x".repeat(200_000)}`;
  assert.equal((await result({ code: long, extension: "ts", cwd: at.name, scriptArgs: ["a"] })).stdout, expected);
  await eventually(
    "the file of the long program is gone",
    async () => (await readdir(at.directory)).join() === "greeting.ts",
  );
});

test("code that begins like an option is code", async () => {
  assert.equal((await result({ code: "-1; console.log('ran')", extension: "js" })).stdout, "ran\n");
  assert.equal((await result({ code: "--help", extension: "js" })).code, 1);
});

test("an entrypoint is found from the default directory or cwd, and gets its arguments", async () => {
  await writeFile(join(at.directory, "main.ts"), "console.log(import.meta.filename, Deno.args.join());");
  const path = join(at.directory, "main.ts");
  assert.equal(
    (await result({ entrypoint: `${at.name}/main.ts`, scriptArgs: ["a", "--b"] })).stdout,
    `${path} a,--b\n`,
  );
  assert.equal((await result({ entrypoint: "main.ts", cwd: at.name })).stdout, `${path} \n`);
  assert.equal((await result({ entrypoint: path })).stdout, `${path} \n`);
  await writeFile(join(at.directory, "-odd.ts"), "console.log('odd')");
  assert.equal((await result({ entrypoint: "-odd.ts", cwd: at.name })).stdout, "odd\n");
  const missing = await result({ entrypoint: "missing.ts" });
  assert.notEqual(missing.code, 0);
  assert.match(missing.stderr, /missing\.ts/);
});

test("a program reads its standard input", async () => {
  at.client.notify("$sandbox.stream.start", { streamId: 1 });
  const code = "console.log(await new Response(Deno.stdin.readable).text())";
  const { pid, stdoutStreamId } = await run({ code, extension: "ts", stdinStreamId: 1 });
  at.client.notify("$sandbox.stream.enqueue", { streamId: 1, data: Buffer.from("input").toString("base64") });
  at.client.notify("$sandbox.stream.end", { streamId: 1 });
  await at.client.ok("processWait", { pid });
  assert.equal(await text(stdoutStreamId), "input\n");
});

test("a missing working directory, a missing program and bad parameters are refused", async () => {
  const error = await at.client.failure("spawnDeno", {
    code: "1",
    extension: "ts",
    cwd: "missing",
    stdout: "null",
    stderr: "null",
  });
  assert.equal(error.code, "ENOENT");
  for (const params of [{}, { code: "1", extension: "py" }, { entrypoint: 5 }, { entrypoint: "a", watch: "yes" }]) {
    const { error } = await at.client.answer(
      at.client.request("spawnDeno", { stdout: "null", stderr: "null", ...params }),
    );
    assert.equal(error?.code, -32602, JSON.stringify(params));
  }
});

test("a program runs without the environment of the sandbox", async () => {
  const { stdout, stderr } = await result({
    code: "console.log(Deno.env.get('ONLY'), Deno.env.get('HOME'), Deno.env.get('LANG'))",
    extension: "ts",
    clearEnv: true,
    // Without a home Deno would keep what it compiles in that of the user who runs the tests.
    env: { ONLY: "1", DENO_DIR: join(at.directory, "deno-cache") },
  });
  assert.equal(stdout, "1 undefined undefined\n", stderr);
});

test("a watching program tells its starter, and nobody else, of every restart", async () => {
  await using other = await RpcClient.connect(at.agent.socketPath);
  await mkdir(join(at.directory, "extra"));
  const main = join(at.directory, "main.ts");
  await writeFile(join(at.directory, "extra/data, with comma"), "1");
  await writeFile(join(at.directory, "part.ts"), "export const version = 1;");
  await writeFile(
    main,
    "import { version } from './part.ts'; console.log('version', version); setInterval(() => {}, 1000);",
  );
  const watch = [join(at.directory, "extra/data, with comma")];
  const { pid, stdoutStreamId, watcherId } = await run({ entrypoint: "main.ts", cwd: at.name, watch });
  assert.match(String(watcherId), /^[0-9a-f-]{36}$/);
  const waiting = at.client.request("processWait", { pid });
  const output = () =>
    at.client
      .stream(stdoutStreamId)
      .map(({ frame }) => Buffer.from(String(frame.params?.data ?? ""), "base64").toString())
      .join("");
  const restarts = (client: RpcClient) =>
    client.frames.filter(({ method }) => method === "$sandbox.deno.watcher.restart");
  await eventually("the first run", () => output() === "version 1\n");
  await eventually("Deno watches", () => isWatched(pid, join(at.directory, "part.ts")));
  assert.equal(restarts(at.client).length, 0);
  await writeFile(join(at.directory, "part.ts"), "export const version = 2;");
  await eventually("the second run", () => output() === "version 1\nversion 2\n" && restarts(at.client).length === 1);
  await eventually("Deno watches", () => isWatched(pid, join(at.directory, "extra")));
  await writeFile(join(at.directory, "extra/data, with comma"), "2");
  await eventually(
    "the third run",
    () => output() === "version 1\nversion 2\nversion 2\n" && restarts(at.client).length === 2,
  );
  assert.deepEqual(restarts(at.client)[0]?.params, { watcherId });
  assert.equal(restarts(other).length, 0);
  await at.client.ok("processKill", { pid, signal: "SIGTERM" });
  await at.client.answer(waiting);
});

/**
 * Whether a process has an inotify watch on a path, which Deno sets up a moment after the program runs. It watches extra paths by their
 * directory.
 */
async function isWatched(pid: number, path: string): Promise<boolean> {
  const { ino } = await stat(path);
  const directory = `/proc/${pid}/fdinfo`;
  const infos = (await readdir(directory)).map((fd) => readFile(join(directory, fd), "utf8").catch(() => ""));
  return (await Promise.all(infos)).some((info) => info.includes(` ino:${ino.toString(16)} `));
}

test("what watching needs in /tmp goes with the process", async () => {
  await writeFile(join(at.directory, "main.ts"), "setInterval(() => {}, 1000)");
  const before = new Set(await readdir("/tmp"));
  const { pid } = await run({ entrypoint: "main.ts", cwd: at.name, watch: true });
  const command = (await readFile(`/proc/${pid}/cmdline`, "utf8")).replaceAll("\0", " ");
  const path = decodeURIComponent(command).match(/\/tmp\/caisson-[^/]+/)?.[0] ?? "";
  assert.ok(path !== "" && !before.has(basename(path)) && existsSync(path), command);
  await kill(pid);
  await eventually("the directory is gone", () => !existsSync(path));
});

const SERVERS: Readonly<Record<string, string>> = {
  "Deno.serve": "Deno.serve({ port: 0 }, () => new Response('x'));",
  "Deno.serve on a Unix socket": "Deno.serve({ path: Deno.args[0] }, () => new Response('x'));",
  "node:http": "(await import('node:http')).createServer((_, response) => response.end('x')).listen(0);",
};

for (const [server, code] of Object.entries(SERVERS)) {
  test(`waiting for the server of a process sees ${server}, repeatedly`, async () => {
    const { pid } = await run({ code, extension: "ts", scriptArgs: [join(at.directory, "socket")], stdout: "null" });
    assert.equal(await at.client.ok("denoHttpWait", { pid }), true);
    assert.equal(await at.client.ok("denoHttpWait", { pid }), true);
    await kill(pid);
    assert.equal(await at.client.ok("denoHttpWait", { pid }), true, "it listened once");
  });
}

test("waiting for the server of a process that ends without one is false, also when asked late", async () => {
  const { pid } = await run({ code: "await new Promise((resolve) => setTimeout(resolve, 50))", extension: "ts" });
  const waits = [at.client.ok("denoHttpWait", { pid }), at.client.ok("denoHttpWait", { pid })];
  await at.client.ok("processWait", { pid });
  assert.deepEqual(await Promise.all(waits), [false, false]);
  assert.equal(await at.client.ok("denoHttpWait", { pid }), false);
  assert.equal((await at.client.failure("denoHttpWait", { pid: 999_999_999 })).code, "ENOENT");
});

test("a client socket or another process's server is not taken for a server", async () => {
  const server = await run({ code: SERVERS["Deno.serve"] ?? "", extension: "ts", stdout: "null" });
  assert.equal(await at.client.ok("denoHttpWait", { pid: server.pid }), true);
  const { pid } = await run({
    code: "Deno.listenDatagram({ port: 0, transport: 'udp' }); await new Promise((resolve) => setTimeout(resolve, 100)); Deno.exit();",
    extension: "ts",
  });
  assert.equal(await at.client.ok("denoHttpWait", { pid }), false);
  await kill(server.pid);
});
