import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readdir, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { useAgent } from "../../tests/agent-fixture.ts";
import { eventually } from "../../tests/eventually.ts";
import { RpcClient } from "../../tests/rpc-client.ts";

const at = useAgent();

const base64 = (content: string | Uint8Array) => Buffer.from(content).toString("base64");

test("text and bytes are written and read through relative and absolute paths", async () => {
  assert.equal(await at.client.ok("writeTextFile", { path: `${at.name}/a`, content: "héllo" }), null);
  assert.equal(await at.client.ok("readTextFile", { path: join(at.directory, "a") }), "héllo");
  const bytes = randomBytes(1000);
  assert.equal(await at.client.ok("writeFile", { path: join(at.directory, "b"), content: base64(bytes) }), null);
  assert.equal(await at.client.ok("readFile", { path: `${at.name}/b` }), base64(bytes));
  assert.equal(await at.client.ok("writeFile", { path: `${at.name}/empty`, content: "" }), null);
  assert.equal(await at.client.ok("readFile", { path: `${at.name}/empty` }), "");
});

test("invalid UTF-8 is replaced and a byte order mark is kept when text is read", async () => {
  await writeFile(join(at.directory, "a"), Buffer.from([0xef, 0xbb, 0xbf, 0x61, 0xff, 0x62, 0xc3]));
  assert.equal(await at.client.ok("readTextFile", { path: `${at.name}/a` }), "\ufeffa\ufffdb\ufffd");
});

test("a file whose size the kernel does not tell is read whole", async () => {
  const environment = await at.client.ok("readTextFile", { path: `/proc/${at.agent.process.pid}/environ` });
  assert.equal(environment, await readFile(`/proc/${at.agent.process.pid}/environ`, "utf8"));
  assert.equal(await at.client.ok("readFile", { path: "/dev/null" }), "");
});

test("a file that no answer can carry is refused, and the connection lives on", async () => {
  await writeFile(join(at.directory, "large"), "");
  await truncate(join(at.directory, "large"), 73 * 1024 * 1024);
  const error = await at.client.failure("readFile", { path: `${at.name}/large` });
  assert.equal(error.code, "EFBIG");
  assert.match(error.message, /Open it and read it in parts/);
  // Endless, and without a size.
  assert.equal((await at.client.failure("readFile", { path: "/dev/zero" })).code, "EFBIG");
  // Six characters for each byte are more than the client takes before they are more than a file may have.
  assert.equal((await at.client.failure("readTextFile", { path: "/dev/zero" })).code, "EMSGSIZE");
});

test("writing truncates, appends, creates and sets the mode as its options say", async () => {
  const path = `${at.name}/a`;
  const content = (text: string, options: object | null) =>
    at.client.ok("writeTextFile", { path, content: text, options });
  await content("long text", null);
  await content("short", { append: null, create: null, createNew: null, mode: null });
  assert.equal(await readFile(join(at.directory, "a"), "utf8"), "short");
  await content("er", { append: true });
  assert.equal(await readFile(join(at.directory, "a"), "utf8"), "shorter");
  await content("x", { mode: 0o600 });
  assert.equal((await stat(join(at.directory, "a"))).mode & 0o7777, 0o600);
  await content("y", { mode: 0o777 });
  assert.equal(
    (await stat(join(at.directory, "a"))).mode & 0o7777,
    0o777,
    "the umask does not apply to a mode that was given",
  );

  const missing = await at.client.failure("writeFile", {
    path: `${at.name}/b`,
    content: "",
    options: { create: false },
  });
  assert.equal(missing.code, "ENOENT");
  const existing = await at.client.failure("writeFile", { path, content: "", options: { createNew: true } });
  assert.deepEqual([existing.constructorName, existing.code], ["AlreadyExists", "EEXIST"]);
  assert.equal(await readFile(join(at.directory, "a"), "utf8"), "y");
  execFileSync("mkfifo", [join(at.directory, "pipe")]);
  const pipe = { path: `${at.name}/pipe`, content: "", options: { createNew: true } };
  assert.equal((await at.client.failure("writeFile", pipe)).code, "EEXIST");
  await at.client.ok("writeFile", { path: `${at.name}/c`, content: "", options: { createNew: true, create: false } });
  assert.equal((await stat(join(at.directory, "c"))).size, 0);
});

test("writing without content and without a stream is invalid, in the clients' form", async () => {
  for (const method of ["writeFile", "writeTextFile"]) {
    const { error } = await at.client.answer(at.client.request(method, { path: `${at.name}/a` }));
    assert.equal(error?.code, -32602);
    const { constructorName, message } = (error?.data ?? {}) as { constructorName: string; message: string };
    assert.equal(constructorName, "ZodError");
    const [issue] = JSON.parse(message);
    assert.deepEqual(issue.path, ["content"]);
    assert.equal(issue.expected, "string");
  }
  assert.deepEqual(await readdir(at.directory), []);
});

test("a stream that began before its request is written, and answered after its end only", async () => {
  at.client.notify("$sandbox.stream.start", { streamId: 0 });
  at.client.notify("$sandbox.stream.enqueue", { streamId: 0, data: base64("first ") });
  const id = at.client.request("writeFile", { path: `${at.name}/a`, contentStreamId: 0 });
  await eventually("the first chunk is in the file", async () => (await contentOf("a")) === "first ");
  at.client.notify("$sandbox.stream.enqueue", { streamId: 0, data: "" });
  at.client.notify("$sandbox.stream.enqueue", { streamId: 0, data: base64("second") });
  await eventually("the second chunk is in the file", async () => (await contentOf("a")) === "first second");
  assert.equal(
    at.client.frames.find((frame) => frame.id === id),
    undefined,
    "the answer waits for the end",
  );
  at.client.notify("$sandbox.stream.end", { streamId: 0 });
  assert.deepEqual((await at.client.answer(id)).result, { ok: null });
});

test("an empty stream makes an empty file, and characters may be split between chunks", async () => {
  at.client.notify("$sandbox.stream.start", { streamId: 1 });
  at.client.notify("$sandbox.stream.end", { streamId: 1 });
  await at.client.ok("writeTextFile", { path: `${at.name}/empty`, contentStreamId: 1 });
  assert.equal(await contentOf("empty"), "");
  const bytes = Buffer.from("añb€c");
  at.client.notify("$sandbox.stream.start", { streamId: 2 });
  const id = at.client.request("writeTextFile", { path: `${at.name}/text`, contentStreamId: 2 });
  for (const byte of bytes)
    at.client.notify("$sandbox.stream.enqueue", { streamId: 2, data: base64(Uint8Array.of(byte)) });
  at.client.notify("$sandbox.stream.end", { streamId: 2 });
  assert.deepEqual((await at.client.answer(id)).result, { ok: null });
  assert.equal(await contentOf("text"), "añb€c");
});

test("a stream that fails fails the write, whichever form its error has", async () => {
  const errors = [
    "plain text",
    null,
    { constructorName: "RangeError", message: "from the client", code: null, stack: null },
  ];
  for (const [index, error] of errors.entries()) {
    const streamId = 10 + index;
    at.client.notify("$sandbox.stream.start", { streamId });
    const id = at.client.request("writeFile", { path: `${at.name}/a`, contentStreamId: streamId });
    at.client.notify("$sandbox.stream.error", { streamId, error });
    const { result } = await at.client.answer(id);
    assert.ok(result?.error !== undefined, JSON.stringify(result));
    if (typeof error === "string") assert.match(result.error.message, /plain text/);
    if (error !== null && typeof error === "object") assert.equal(result.error.message, "from the client");
  }
});

test("a write that cannot begin tells the client to stop its stream", async () => {
  at.client.notify("$sandbox.stream.start", { streamId: 20 });
  const error = await at.client.failure("writeFile", { path: `${at.name}/missing/a`, contentStreamId: 20 });
  assert.equal(error.code, "ENOENT");
  await at.client.until(() => at.client.stream(20).find(({ kind }) => kind === "cancel"), "a cancel");
});

test("aborted reads and writes answer with an AbortError at once, in the middle of an answer too", async () => {
  await writeFile(join(at.directory, "large"), "");
  await truncate(join(at.directory, "large"), 60_000_000);
  await using client = await RpcClient.connect(at.agent.socketPath);
  client.notify("$sandbox.stream.start", { streamId: 30 });
  const write = client.request("writeFile", { path: `${at.name}/a`, contentStreamId: 30, abortId: 0 });
  await eventually("the write has begun", async () => (await contentOf("a")) === "");
  // More than are read at a time, and the client takes none of them.
  client.socket.pause();
  const reads = Array.from({ length: 20 }, (_, index) =>
    client.request("readFile", { path: `${at.name}/large`, abortId: index + 1 }),
  );
  const aborts = Array.from({ length: 21 }, (_, abortId) => client.request("abort", { abortId }));
  client.socket.resume();
  for (const id of aborts) assert.deepEqual((await client.answer(id)).result, { ok: null });
  for (const id of [write, ...reads]) {
    const { error } = (await client.answer(id)).result ?? {};
    assert.deepEqual([error?.constructorName, error?.name], ["DOMException", "AbortError"]);
  }
});

test("a file that shrinks while it is sent gives what is left of it", async () => {
  await writeFile(join(at.directory, "large"), Buffer.alloc(60_000_000, "x"));
  await using client = await RpcClient.connect(at.agent.socketPath);
  client.socket.pause();
  const id = client.request("readFile", { path: `${at.name}/large` });
  // Another connection, since this one takes nothing; what it asks is answered after the read has begun or before.
  await at.client.ok("truncate", { name: `${at.name}/large`, length: 1_000_000 });
  client.socket.resume();
  const { result } = await client.answer(id);
  const content = Buffer.from(String(result?.ok), "base64");
  assert.ok(content.length >= 1_000_000 && content.length < 60_000_000 && content.every((byte) => byte === 0x78));
});

test("100 MiB pass through a write and through reads with little memory", async () => {
  const chunk = randomBytes(64 * 1024);
  const hash = createHash("sha256");
  const before = await peakMemoryBytes();
  at.client.notify("$sandbox.stream.start", { streamId: 40 });
  const id = at.client.request("writeFile", { path: `${at.name}/large`, contentStreamId: 40 });
  for (let index = 0; index < 1600; index++) {
    chunk.writeUInt32LE(index);
    hash.update(chunk);
    at.client.notify("$sandbox.stream.enqueue", { streamId: 40, data: chunk.toString("base64") });
    if (at.client.unsentBytes > 1024 * 1024)
      await eventually("the agent takes more", () => at.client.unsentBytes < 1024 * 1024);
  }
  at.client.notify("$sandbox.stream.end", { streamId: 40 });
  assert.deepEqual((await at.client.answer(id)).result, { ok: null });
  assert.equal((await stat(join(at.directory, "large"))).size, 1600 * 65536);

  const { fileHandleId } = (await at.client.ok("open", { path: `${at.name}/large` })) as { fileHandleId: number };
  const readBack = createHash("sha256");
  for (;;) {
    const { data } = (await at.client.ok("fileRead", { fileHandleId, length: 65536 })) as { data: string | null };
    at.client.frames.length = 0;
    if (data === null) break;
    readBack.update(Buffer.from(data, "base64"));
  }
  await at.client.ok("fileClose", { fileHandleId });
  assert.equal(readBack.digest("hex"), hash.digest("hex"));
  const grownMiB = ((await peakMemoryBytes()) - before) / 1024 / 1024;
  assert.ok(grownMiB < 50, `the agent's peak memory grew by ${grownMiB.toFixed(1)} MiB`);
});

async function contentOf(file: string): Promise<string | undefined> {
  return await readFile(join(at.directory, file), "utf8").catch(() => undefined);
}

/** The most memory that the agent has had. */
async function peakMemoryBytes(): Promise<number> {
  const status = await readFile(`/proc/${at.agent.process.pid}/status`, "utf8");
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

test("large content of every length is written, its slashes escaped or not, and read again", async () => {
  for (const length of [1_000_000, 1_000_001, 1_000_002, 1_179_648, 2_000_003]) {
    const content = randomBytes(length);
    for (const escaped of [base64(content), base64(content).replaceAll("/", "\\/")]) {
      const id = 1_000_000 + length + escaped.length;
      at.client.send(
        `{"jsonrpc":"2.0","id":${id},"method":"writeFile","params":{"path":"${at.name}/a","content":"${escaped}"}}`,
      );
      assert.deepEqual((await at.client.answer(id)).result, { ok: null });
      assert.ok((await readFile(join(at.directory, "a"))).equals(content));
    }
    assert.equal(await at.client.ok("readFile", { path: `${at.name}/a` }), base64(content));
  }
});

test("large text is written and read again, with every character that JSON escapes", async () => {
  const content = 'ž"\\\n\u0001😀\u2028'.repeat(200_000);
  await at.client.ok("writeTextFile", { path: `${at.name}/a`, content });
  assert.equal(await readFile(join(at.directory, "a"), "utf8"), content);
  assert.ok((await at.client.ok("readTextFile", { path: `${at.name}/a` })) === content);
});

test("large content that is not base64 is refused before the file is touched, wherever it goes wrong", async () => {
  await writeFile(join(at.directory, "a"), "kept");
  const valid = "AAAA".repeat(300_000);
  for (const content of [`${valid}A`, `${valid}!AAA`, `AA==${valid}`, `${valid}AB=`, `${valid}AA==AAAA`]) {
    const { error } = await at.client.answer(at.client.request("writeFile", { path: `${at.name}/a`, content }));
    assert.equal(error?.code, -32602, content.slice(-12));
  }
  assert.equal(await readFile(join(at.directory, "a"), "utf8"), "kept");
});

test("named pipes, sockets and terminals are refused at once by everything that opens files", async () => {
  execFileSync("mkfifo", [join(at.directory, "pipe")]);
  const pipe = `${at.name}/pipe`;
  const calls: [string, object][] = [
    ["readFile", { path: pipe }],
    ["readTextFile", { path: pipe }],
    ["writeFile", { path: pipe, content: "" }],
    ["open", { path: pipe }],
    ["open", { path: pipe, options: { write: true } }],
    ["create", { path: pipe }],
    ["truncate", { name: pipe }],
    ["copyFile", { fromPath: pipe, toPath: `${at.name}/b` }],
    ["copyFile", { fromPath: `${at.name}/a`, toPath: pipe }],
    ["readFile", { path: at.agent.socketPath }],
    ["open", { path: "/dev/ptmx" }],
  ];
  await writeFile(join(at.directory, "a"), "");
  for (const [method, params] of calls) {
    const error = await at.client.failure(method, params);
    assert.deepEqual([error.constructorName, error.code], ["NotSupported", "ENOTSUP"], `${method} ${error.message}`);
  }
  assert.equal(Object(await at.client.ok("lstat", { path: pipe })).isFifo, true);
  await at.client.ok("rename", { oldPath: pipe, newPath: `${at.name}/moved` });
  await at.client.ok("remove", { path: `${at.name}/moved` });
});
