import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Sandbox, SeekMode } from "@deno/sandbox";

export interface Context {
  /** Address of a server on this host that answers `GET /` with `text/html` and `Hello`. */
  readonly pageUrl: string;
}

type Scenario = (sandbox: Sandbox, context: Context) => Promise<void>;

const encoder = new TextEncoder();

/** A stream whose chunks come some time apart. */
function slowStream(
  chunks: readonly Uint8Array<ArrayBuffer>[],
  intervalMs: number,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const rest = [...chunks];
  return new ReadableStream({
    async pull(controller) {
      await delay(intervalMs);
      const chunk = rest.shift();
      if (chunk === undefined) controller.close();
      else controller.enqueue(chunk);
    },
  });
}

async function textOf(stream: ReadableStream<Uint8Array> | null): Promise<string> {
  return Buffer.concat(stream === null ? [] : await Array.fromAsync(stream)).toString();
}

/** What the official client sees, by line of the checklist in protocol.md 9.A. */
export const scenarios: Readonly<Record<string, Scenario>> = {
  "3: text, bytes and streams round-trip through relative paths": async ({ fs }) => {
    await fs.writeTextFile("text", "Hello, wörld");
    assert.equal(await fs.readTextFile("text"), "Hello, wörld");
    const bytes = new Uint8Array([0, 1, 254, 255]);
    await fs.writeFile("bytes", bytes);
    assert.deepEqual([...(await fs.readFile("bytes"))], [...bytes]);
    await fs.writeFile("empty", slowStream([], 0));
    assert.equal((await fs.stat("empty")).size, 0);
    const chunks = Array.from({ length: 10 }, (_, index) => new Uint8Array(10 * 1024).fill(index));
    await fs.writeFile("chunks", slowStream(chunks, 0));
    assert.equal(Buffer.compare(await fs.readFile("chunks"), Buffer.concat(chunks)), 0);
  },

  "4: a stream whose chunks come 50 ms apart does not deadlock a write": async ({ fs }) => {
    await fs.writeFile("slow", slowStream([encoder.encode("a"), encoder.encode("b"), encoder.encode("c")], 50));
    assert.equal(await fs.readTextFile("slow"), "abc");
    await fs.writeTextFile(
      "slow-text",
      slowStream([encoder.encode("d")], 50).pipeThrough(
        new TextDecoderStream() as ReadableWritablePair<string, Uint8Array<ArrayBuffer>>,
      ),
    );
    assert.equal(await fs.readTextFile("slow-text"), "d");
  },

  "8: files, nested directories and symlinks are uploaded and downloaded": async ({ fs }) => {
    const local = await mkdtemp(join(tmpdir(), "caisson-upload-"));
    const remote = await fs.makeTempDir();
    try {
      await mkdir(join(local, "source/nested/deeper"), { recursive: true });
      await writeFile(join(local, "source/one"), "1");
      await writeFile(join(local, "source/nested/deeper/two"), "22");
      await symlink("one", join(local, "source/link"));
      await fs.upload(join(local, "source"), remote);
      assert.equal(await fs.readTextFile(`${remote}/source/one`), "1");
      assert.equal(await fs.readTextFile(`${remote}/source/nested/deeper/two`), "22");
      assert.equal((await fs.lstat(`${remote}/source/link`)).isSymlink, true);
      assert.equal(await fs.readTextFile(`${remote}/source/link`), "1");
      await fs.download(`${remote}/source/nested/deeper/two`, join(local, "back"));
      assert.equal(await readFile(join(local, "back"), "utf8"), "22");
    } finally {
      await rm(local, { recursive: true });
      await fs.remove(remote, { recursive: true });
    }
  },

  "9: file handles write, seek, read, truncate, sync and lock": async ({ fs }) => {
    await using file = await fs.create("handle");
    assert.equal(await file.write(encoder.encode("hello world")), 11);
    assert.equal(await file.seek(0, SeekMode.Start), 0);
    const buffer = new Uint8Array(5);
    assert.equal(await file.read(buffer), 5);
    assert.equal(new TextDecoder().decode(buffer), "hello");
    assert.equal(await file.seek(1n, SeekMode.Current), 6);
    assert.equal(await file.read(buffer), 5);
    assert.equal(new TextDecoder().decode(buffer), "world");
    assert.equal(await file.read(buffer), null);
    assert.equal((await file.stat()).size, 11);
    await file.syncData();
    await file.lock(true);
    await file.unlock();
    await file.truncate();
    assert.equal((await file.stat()).size, 0);
  },

  "10: eval gives the last value, and a REPL keeps its state": async ({ deno }) => {
    assert.equal(await deno.eval("1 + 2"), 3);
    assert.equal(await deno.eval("const a: number = 20; const b = 22; a + b"), 42);
    await assert.rejects(() => deno.eval("throw new RangeError('too far')"), {
      name: "RangeError",
      message: "too far",
    });
    await using repl = await deno.repl();
    await repl.eval("function add(a: number, b: number) { return a + b; }");
    assert.equal(await repl.call("add", 1, 2), 3);
    assert.equal(await repl.call("(a, b) => a * b", 3, 4), 12);
    await repl.eval("const x = 1");
    assert.equal(await repl.eval("x + 1"), 2);
  },

  "11: run prints, and httpReady tells a server from a program that exits": async ({ deno }) => {
    await using printing = await deno.run({
      code: "console.log('Hello', Deno.args[0])",
      scriptArgs: ["there"],
      stdout: "piped",
    });
    assert.equal(await textOf(printing.stdout), "Hello there\n");
    assert.equal((await printing.status).success, true);
    assert.equal(await printing.httpReady, false);
    await using serving = await deno.run({
      code: "Deno.serve({ port: 0 }, () => new Response('served'));",
      stdout: "null",
      stderr: "null",
    });
    assert.equal(await serving.httpReady, true);
  },

  "12: fetching from a process reaches its own server": async ({ deno }) => {
    const code = `Deno.serve({ port: 0 }, async (request) => {
      const { pathname } = new URL(request.url);
      return new Response([request.method, pathname, await request.text()].join(" "));
    });`;
    await using runtime = await deno.run({ code, stdout: "null", stderr: "null" });
    const response = await runtime.fetch("https://example.com/a/b");
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-type"), "text/plain;charset=UTF-8");
    assert.equal(await response.text(), "GET /a/b ");
    const posted = await runtime.fetch("https://example.com/c", { method: "POST", body: "body" });
    assert.equal(await posted.text(), "POST /c body");
  },

  "13: fetching a page gives 200 and lower-case header names": async (sandbox, { pageUrl }) => {
    const response = await sandbox.fetch(pageUrl);
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-type"), "text/html");
    assert.equal(await response.text(), "Hello");
    const controller = new AbortController();
    const aborted = sandbox.fetch(`${pageUrl}/never`, { signal: controller.signal });
    controller.abort();
    await assert.rejects(aborted, { name: "AbortError" });
  },

  "28: five megabytes of output stream completely and in order": async (sandbox) => {
    const lines = Array.from({ length: 500_000 }, (_, index) => `${String(index).padStart(9, "0")}\n`).join("");
    await sandbox.fs.writeTextFile("large", lines);
    const child = await sandbox.spawn("cat", { args: ["large"], stdout: "piped" });
    assert.equal(await textOf(child.stdout), lines);
    assert.equal((await child.status).code, 0);
  },

  "33: watch mode tells the starter of a restart": async ({ fs, deno }) => {
    await fs.writeTextFile("watched.ts", "console.log('first'); setInterval(() => {}, 1000);");
    await using runtime = await deno.run({ entrypoint: "watched.ts", watch: true, stdout: "piped", stderr: "null" });
    let isRestarted = false;
    runtime.addEventListener("restart", () => {
      isRestarted = true;
    });
    const reader = runtime.stdout?.getReader();
    assert.equal(Buffer.from((await reader?.read())?.value ?? []).toString(), "first\n");
    // A change in the first moments of a run is not seen by Deno's own watcher.
    for (let attempt = 0; attempt < 100 && !isRestarted; attempt++) {
      await fs.writeTextFile("watched.ts", "console.log('second'); setInterval(() => {}, 1000);");
      await delay(500);
    }
    assert.equal(isRestarted, true);
    assert.equal(Buffer.from((await reader?.read())?.value ?? []).toString(), "second\n");
    await runtime.kill();
    // Read to the end: the client does not survive an end that crosses its cancel (protocol.md 3.5).
    while ((await reader?.read())?.done === false);
  },

  "34: walk and glob list what is there": async ({ fs }) => {
    await fs.mkdir("tree/a/b", { recursive: true });
    for (const path of ["tree/one.ts", "tree/two.js", "tree/a/three.ts", "tree/a/b/four.md"])
      await fs.writeTextFile(path, "");
    await fs.symlink("one.ts", "tree/link");
    const walked = await Array.fromAsync(fs.walk("tree", { exts: ["ts"], includeDirs: false }), ({ path }) => path);
    assert.deepEqual(walked.sort(), ["tree/a/three.ts", "tree/one.ts"]);
    const skipped = await Array.fromAsync(fs.walk("tree", { skip: [/\/b$/], maxDepth: 3 }), ({ path }) => path);
    assert.deepEqual(skipped.sort(), ["tree", "tree/a", "tree/a/three.ts", "tree/link", "tree/one.ts", "tree/two.js"]);
    const globbed = await Array.fromAsync(fs.expandGlob("tree/**/*.{ts,md}"), ({ name }) => name);
    assert.deepEqual(globbed, ["four.md", "three.ts", "one.ts"]);
  },
};
