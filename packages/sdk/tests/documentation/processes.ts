// Processes: spawn, shell commands, interpolation, JSON, cancellation, input, Deno programs and REPLs.
import assert from "node:assert/strict";
import { KillController, Sandbox } from "@deno/sandbox";

await using sandbox = await Sandbox.create();

const child = await sandbox.spawn("bash", {
  args: ["-c", "echo hello; echo world >&2"],
  stdout: "piped",
  stderr: "piped",
});
const { status, stdoutText, stderrText } = await child.output();
assert.deepEqual([status.success, stdoutText, stderrText], [true, "hello\n", "world\n"]);

const filename = "file with spaces.txt";
const content = "Hello, world!";
await sandbox.sh`echo ${content} > ${filename}`;
console.log((await sandbox.sh`cat ${filename}`.text()).trim());
const files = ["file1.txt", "file2.txt", "file3.txt"];
await sandbox.sh`touch ${files}`;
await sandbox.sh`rm ${files}`;

const data = await sandbox.sh`echo '{"count": 42}'`.json<{ count: number }>();
assert.equal(data.count, 42);

const controller = new KillController();
const cancelled = sandbox.sh`sleep 30`.signal(controller.signal).text();
setTimeout(() => controller.kill(), 200);
await assert.rejects(Promise.resolve(cancelled), { name: "SandboxCommandError", code: 143 });

const binary = await sandbox.sh`head -c 100 /dev/zero`.stdout("piped");
assert.equal(binary.stdout?.length, 100);

const cat = await sandbox.spawn("cat", { stdin: "piped", stdout: "piped" });
const writer = cat.stdin?.getWriter();
await writer?.write(new TextEncoder().encode("typed"));
await writer?.close();
assert.equal((await cat.output()).stdoutText, "typed");

const killed = await sandbox.spawn("sleep", { args: ["10"] });
await killed.kill("SIGKILL");
assert.equal((await killed.status).signal, "SIGKILL");

assert.equal(await sandbox.deno.eval("const a = 1; const b = 2; a + b;"), 3);
const repl = await sandbox.deno.repl();
await repl.eval("const x = 42;");
await repl.eval("const y = 8;");
assert.equal(await repl.eval("x + y"), 50);
await repl.close();

await using server = await sandbox.deno.run({
  code: "Deno.serve({ handler: () => new Response('Hello, world!') });",
  stdout: "null",
  stderr: "null",
});
assert.equal(await server.httpReady, true);
const response = await server.fetch("https://example.com/resource");
assert.deepEqual([response.status, await response.text()], [200, "Hello, world!"]);
