import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { ErrorObject } from "@caisson/protocol/rpc";
import { useAgent } from "../../tests/agent-fixture.ts";
import { eventually } from "../../tests/eventually.ts";

const at = useAgent();

interface Spawned {
  readonly pid: number;
  readonly stdoutStreamId: number | null;
  readonly stderrStreamId: number | null;
}

/** A REPL for one test. */
class TestRepl implements AsyncDisposable {
  readonly spawned: Spawned;

  constructor(spawned: Spawned) {
    this.spawned = spawned;
  }

  get pid(): number {
    return this.spawned.pid;
  }

  static async start(params: object = {}): Promise<TestRepl> {
    return new TestRepl(
      (await at.client.ok("spawnDenoRepl", { stdout: "null", stderr: "null", ...params })) as Spawned,
    );
  }

  evaluate(code: string): Promise<unknown> {
    return at.client.ok("denoReplEval", { pid: this.pid, code });
  }

  failure(code: string): Promise<ErrorObject> {
    return at.client.failure("denoReplEval", { pid: this.pid, code });
  }

  call(fn: string, ...args: readonly unknown[]): Promise<unknown> {
    return at.client.ok("denoReplCall", { pid: this.pid, fn, args });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await at.client.ok("denoReplClose", { pid: this.pid });
  }
}

test("the value is that of the last expression, and bindings last", async () => {
  await using repl = await TestRepl.start();
  assert.equal(await repl.evaluate("1 + 2"), 3);
  assert.equal(await repl.evaluate("const x = 1"), null);
  assert.equal(await repl.evaluate("let y = 2; x + y"), 3);
  assert.equal(await repl.evaluate("const x = 10; x * y"), 20, "const may be declared again");
  assert.equal(await repl.evaluate("function add(a, b) { return a + b; } class A { b = 1 }"), null);
  assert.equal(await repl.evaluate("add(new A().b, x)"), 11);
  assert.equal((await repl.failure("x = 1")).constructorName, "TypeError", "a const stays one");
  assert.equal(await repl.evaluate(""), null);
  assert.equal(await repl.evaluate("// nothing"), null);
});

test("promises are awaited, at the top level and as the value", async () => {
  await using repl = await TestRepl.start();
  assert.equal(await repl.evaluate("await Promise.resolve(4)"), 4);
  assert.equal(await repl.evaluate("Promise.resolve(5)"), 5);
  assert.equal(
    await repl.evaluate("const late = await new Promise((resolve) => setTimeout(resolve, 10, 'late')); late"),
    "late",
  );
  assert.equal((await repl.failure("Promise.reject(new RangeError('no'))")).constructorName, "RangeError");
});

test("TypeScript and imports work as in a module of the working directory", async () => {
  await writeFile(
    join(at.directory, "part.ts"),
    "export const a: number = 1; export default 'default'; export type T = number;",
  );
  await writeFile(join(at.directory, "data.json"), '{"key":[1]}');
  await using repl = await TestRepl.start({ cwd: at.name });
  assert.equal(await repl.evaluate("const n: number = 1; interface I { a: string } n as unknown as number"), 1);
  assert.equal(await repl.evaluate("enum Color { Red = 3 } Color.Red"), 3);
  assert.equal(await repl.evaluate("import { join } from 'node:path'; join('a', 'b')"), "a/b");
  assert.equal(await repl.evaluate("join('c', 'd')"), "c/d");
  assert.deepEqual(
    await repl.evaluate("import d, { a as one, type T } from './part.ts'; [d, one] satisfies [string, T]"),
    ["default", 1],
  );
  assert.equal(await repl.evaluate("const path = './part.ts'; (await import(path)).default"), "default");
  assert.equal(await repl.evaluate("(await import('./part.ts')).a"), 1);
  assert.deepEqual(await repl.evaluate("import data from './data.json' with { type: 'json' }; data"), { key: [1] });
  assert.equal(await repl.evaluate("import './part.ts'"), null);
  assert.equal(await repl.evaluate("Deno.cwd()"), at.directory);
});

test("an object is an object where a block would read the same", async () => {
  await using repl = await TestRepl.start();
  assert.deepEqual(await repl.evaluate("{ a: 1 }"), { a: 1 });
  assert.deepEqual(await repl.evaluate("{}"), {});
  assert.equal(await repl.evaluate("{ let a = 3; a }"), 3);
  assert.equal(await repl.evaluate("{ a: 1 };"), 1);
});

test("values that JSON does not have take their documented form", async () => {
  await using repl = await TestRepl.start();
  const cases: readonly (readonly [code: string, value: unknown])[] = [
    ["undefined", null],
    ["null", null],
    ["NaN", null],
    ["-0", 0],
    ["10n ** 20n", "100000000000000000000"],
    ["new Date(0)", "1970-01-01T00:00:00.000Z"],
    ["new Map([['a', new Set([1, 2n])]])", [["a", [1, "2"]]]],
    ["new Uint8Array([1, 2])", [1, 2]],
    ["/a/g", "/a/g"],
    ["() => 1", null],
    ["Symbol('a')", null],
    ["({ a: undefined, b: () => 1, c: null })", { c: null }],
    ["new (class A { b = 1; #c = 2; get d() { return 3 } })", { b: 1 }],
    ["new TypeError('wrong')", { name: "TypeError", message: "wrong" }],
    ["'text\\n\\u2028\\ud800'", "text\n\u2028\ud800"],
    ["[1, [2, { three: 3 }]]", [1, [2, { three: 3 }]]],
  ];
  for (const [code, value] of cases) assert.deepEqual(await repl.evaluate(code), value, code);
  const cycle = await repl.failure("const cycle = {}; cycle.cycle = cycle; cycle");
  assert.equal(cycle.constructorName, "TypeError");
  assert.match(cycle.message, /circular/);
});

test("what code throws arrives with class, message, code, cause and a stack of its own", async () => {
  await using repl = await TestRepl.start();
  const range = await repl.failure(
    "\nfunction inner() { throw new RangeError('too far', { cause: new URIError('why') }); }\ninner()",
  );
  assert.deepEqual(
    [range.constructorName, range.message, range.cause?.constructorName],
    ["RangeError", "too far", "URIError"],
  );
  assert.match(
    String(range.stack),
    /^RangeError: too far\n\s+at inner \(<anonymous>:2:\d+\)\n\s+at <anonymous>:3:\d+$/,
  );
  const missing = await repl.failure("Deno.readTextFileSync('/missing')");
  assert.deepEqual([missing.constructorName, missing.code], ["NotFound", "ENOENT"]);
  const abort = await repl.failure("throw new DOMException('stop', 'AbortError')");
  assert.deepEqual([abort.constructorName, abort.name], ["DOMException", "AbortError"]);
  const own = await repl.failure("class MyError extends TypeError {} throw new MyError('mine')");
  assert.deepEqual([own.constructorName, own.message], ["TypeError", "mine"], "the nearest class that clients know");
  const many = await repl.failure("throw new AggregateError([new Error('a'), 'b'], 'many')");
  assert.deepEqual(
    many.errors?.map(({ message }) => message),
    ["a", "b"],
  );
  const values = ["throw 'text'", "throw 5", "throw { a: 1 }", "throw undefined"];
  const messages = await Promise.all(values.map(async (code) => (await repl.failure(code)).message));
  assert.deepEqual(messages, ["text", "5", "{ a: 1 }", "undefined"]);
  for (const code of ["const a b", "(", "`", "import {", "await", "}"]) {
    assert.equal((await repl.failure(code)).constructorName, "SyntaxError", code);
  }
  assert.equal((await repl.failure("nowhere")).constructorName, "ReferenceError");
  assert.equal(await repl.evaluate("1"), 1);
});

test("functions are called by name or as expressions, with JSON arguments", async () => {
  await using repl = await TestRepl.start();
  await repl.evaluate(
    "function add(a: number, b: number) { return a + b; } const object = { factor: 2, times(n) { return this.factor * n; } };",
  );
  assert.equal(await repl.call("add", 1, 2), 3);
  assert.equal(await repl.call("(a, b) => a * b", 3, 4), 12);
  assert.deepEqual(await repl.call("async function (a: { b: number }) { return { c: a.b }; };", { b: 1 }), { c: 1 });
  assert.equal(await repl.call("object.times", 5), 10);
  const args = [null, "a'\"`$\u2028", [1], { key: "value" }];
  assert.deepEqual(await repl.call("(...args) => args", ...args), args);
  const failures = await Promise.all(
    ["nowhere", "5", "() => { throw new EvalError('called') }"].map((fn) =>
      at.client.failure("denoReplCall", { pid: repl.pid, fn, args: [] }),
    ),
  );
  assert.deepEqual(
    failures.map(({ constructorName }) => constructorName),
    ["ReferenceError", "TypeError", "EvalError"],
  );
});

test("inputs start in order, and one that waits does not hold up the next", async () => {
  await using repl = await TestRepl.start();
  const codes = Array.from({ length: 50 }, (_, index) =>
    index % 2 === 0 ? `order.push(${index})` : `const n${index}: number = ${index}; order.push(n${index})`,
  );
  await repl.evaluate("const order = []");
  await Promise.all(codes.map((code) => repl.evaluate(code)));
  assert.deepEqual(
    await repl.evaluate("order"),
    Array.from({ length: 50 }, (_, index) => index),
  );
  const waiting = repl.evaluate("await new Promise((resolve) => { globalThis.release = resolve; })");
  await repl.evaluate("release('released')");
  assert.equal(await waiting, "released");
});

test("output, input, arguments and environment are those of the process", async () => {
  at.client.notify("$sandbox.stream.start", { streamId: 1 });
  await using repl = await TestRepl.start({
    stdout: "inherit",
    stderr: "piped",
    stdinStreamId: 1,
    scriptArgs: ["a", "--b"],
    env: { VARIABLE: "value" },
  });
  const waiting = at.client.request("processWait", { pid: repl.pid });
  assert.deepEqual(
    await repl.evaluate("console.log('out'); console.error('err'); [Deno.args, Deno.env.get('VARIABLE')]"),
    [["a", "--b"], "value"],
  );
  at.client.notify("$sandbox.stream.enqueue", { streamId: 1, data: Buffer.from("typed").toString("base64") });
  at.client.notify("$sandbox.stream.end", { streamId: 1 });
  assert.equal(await repl.evaluate("new Response(Deno.stdin.readable).text()"), "typed");
  await at.client.ok("denoReplClose", { pid: repl.pid });
  assert.deepEqual((await at.client.answer(waiting)).result?.ok, { success: true, code: 0, signal: null, oom: null });
  const { stdoutStreamId, stderrStreamId } = repl.spawned;
  assert.equal(Buffer.concat(await at.client.chunks(stdoutStreamId ?? -1)).toString(), "out\n");
  assert.equal(Buffer.concat(await at.client.chunks(stderrStreamId ?? -1)).toString(), "err\n");
});

test("what nobody catches is shown, and the REPL goes on", async () => {
  await using repl = await TestRepl.start({ stderr: "piped" });
  const waiting = at.client.request("processWait", { pid: repl.pid });
  await repl.evaluate(
    "setTimeout(() => { throw new Error('from a timer'); }, 1); Promise.reject(new Error('from a promise')); 0",
  );
  const shown = () =>
    at.client
      .stream(repl.spawned.stderrStreamId ?? -1)
      .map(({ frame }) => Buffer.from(String(frame.params?.data ?? ""), "base64").toString())
      .join("");
  await eventually("both are shown", () => /from a promise[\s\S]*from a timer/.test(shown()));
  assert.doesNotMatch(shown(), /inspector|deno\$eval/);
  assert.equal(await repl.evaluate("'still here'"), "still here");
  await at.client.ok("denoReplClose", { pid: repl.pid });
  await at.client.answer(waiting);
});

test("large values pass in both directions", async () => {
  await using repl = await TestRepl.start();
  const value = (await repl.evaluate("'x'.repeat(5_000_000)")) as string;
  assert.equal(value.length, 5_000_000);
  assert.equal(await repl.call("(text) => text.length", "é".repeat(2_000_000)), 2_000_000);
  assert.equal(await repl.evaluate(`${JSON.stringify("y".repeat(2_000_000))}.length`), 2_000_000);
});

test("closing and killing at the same time both succeed, in either order and again", async () => {
  for (const first of ["denoReplClose", "processKill"]) {
    const repl = await TestRepl.start();
    await repl.evaluate("1");
    const second = first === "processKill" ? "denoReplClose" : "processKill";
    const answers = [first, second].map((method) => at.client.request(method, { pid: repl.pid }));
    for (const id of answers) {
      const { result } = await at.client.answer(id);
      assert.ok(result?.error === undefined || result.error.code === "ENOENT", JSON.stringify(result));
    }
    assert.equal(await at.client.ok("denoReplClose", { pid: repl.pid }), null);
    assert.equal(await at.client.ok("denoHttpWait", { pid: repl.pid }), false);
    const error = await repl.failure("1");
    assert.deepEqual([error.code, error.message.includes("has ended")], ["ENOENT", true]);
  }
});

test("a busy REPL is closed all the same, and its open calls fail", async () => {
  const repl = await TestRepl.start();
  await repl.evaluate("1");
  const closed = await TestRepl.start();
  await closed.evaluate("1");
  const closes = [1, 2].map(() => at.client.ok("denoReplClose", { pid: closed.pid }));
  assert.deepEqual(await Promise.all(closes), [null, null], "closing twice at a time succeeds too");

  const busy = at.client.request("denoReplEval", { pid: repl.pid, code: "while (true);" });
  assert.equal(await at.client.ok("denoReplClose", { pid: repl.pid }), null);
  assert.equal((await at.client.answer(busy)).result?.error?.code, "ENOENT");
});

test("a REPL that ends itself, or is closed before it is up, leaves nothing", async () => {
  const repl = await TestRepl.start();
  assert.equal((await repl.failure("Deno.exit(7)")).code, "ENOENT");
  assert.equal(((await at.client.ok("processWait", { pid: repl.pid })) as { code: number }).code, 7);

  const early = await TestRepl.start();
  const path =
    decodeURIComponent(await readFile(`/proc/${early.pid}/cmdline`, "utf8")).match(/\/tmp\/caisson-[^/]+/)?.[0] ?? "";
  assert.ok(path !== "");
  const evaluation = at.client.request("denoReplEval", { pid: early.pid, code: "1" });
  await at.client.ok("denoReplClose", { pid: early.pid });
  assert.ok((await at.client.answer(evaluation)).result !== undefined);
  await eventually("its directory is gone", () => !existsSync(path));
});

test("a process that is no REPL and a pid that never was are refused", async () => {
  const { pid } = (await at.client.ok("spawn", {
    command: "sleep",
    args: ["10"],
    stdout: "null",
    stderr: "null",
  })) as Spawned;
  assert.equal((await at.client.failure("denoReplEval", { pid, code: "1" })).constructorName, "TypeError");
  assert.equal((await at.client.failure("denoReplClose", { pid })).constructorName, "TypeError");
  await at.client.ok("processKill", { pid, signal: "SIGKILL" });
  for (const method of ["denoReplEval", "denoReplCall", "denoReplClose"]) {
    const error = await at.client.failure(method, { pid: 999_999_999, code: "1", fn: "a", args: [] });
    assert.equal(error.code, "ENOENT");
  }
});
