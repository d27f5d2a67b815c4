import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { TestAgent } from "../testing/test-agent.ts";
import { RpcClient } from "./rpc-client.ts";

/** What a client does to the agent may cost itself an error, but neither ends the agent nor keeps it from other clients. */

const MIB = 1024 * 1024;

const socketOf = (client: RpcClient): Socket => (client.socket as unknown as { readonly _socket: Socket })._socket;

/** A masked frame, with a mask of zeros. */
function frame(isFinal: boolean, opcode: number, payload: Buffer): Buffer {
  return Buffer.concat([Buffer.from([(isFinal ? 0x80 : 0) | opcode, 0x80 | payload.length, 0, 0, 0, 0]), payload]);
}

async function residentBytes({ process: { pid } }: TestAgent): Promise<number> {
  return Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
}

test("a message in 200,000 fragments of one byte, or with as many empty ones, is read like any other", async () => {
  await using agent = await TestAgent.start();
  await using client = await RpcClient.connect(agent.socketPath);
  const message = (id: number, key: string) =>
    Buffer.from(JSON.stringify({ jsonrpc: "2.0", id, method: "envGet", params: { key } }));
  const long = message(1001, "x".repeat(200_000));
  const bytes = Array.from(long, (_, index) =>
    frame(index === long.length - 1, index === 0 ? 1 : 0, long.subarray(index, index + 1)),
  );
  socketOf(client).write(Buffer.concat(bytes));
  assert.deepEqual((await client.answer(1001)).result, { ok: null });
  const empty = Array.from({ length: 200_000 }, (_, index) => frame(false, index === 0 ? 1 : 0, Buffer.alloc(0)));
  socketOf(client).write(Buffer.concat([...empty, frame(true, 0, message(1002, "x"))]));
  assert.deepEqual((await client.answer(1002)).result, { ok: null });
});

test("a client that sends pings without end and reads no answer is not read on, and others are served", async () => {
  await using agent = await TestAgent.start();
  const client = await RpcClient.connect(agent.socketPath, {}, { autoPong: false });
  await using other = await RpcClient.connect(agent.socketPath);
  const before = await residentBytes(agent);
  const socket = socketOf(client);
  socket.pause();
  const many = Buffer.concat(Array.from({ length: 10_000 }, () => frame(true, 9, Buffer.alloc(125))));
  // 63 MB, far more than all buffers on the way hold, so that the last of it waits on this side once the agent reads no more.
  for (let count = 0; count < 48; count += 1) socket.write(many);
  let unsent = -1;
  while (unsent !== socket.writableLength) {
    unsent = socket.writableLength;
    for (let count = 0; count < 50; count += 1) await other.ok("envGet", { key: "x" });
  }
  assert.ok(unsent > 32 * MIB, `${unsent} bytes wait`);
  assert.ok((await residentBytes(agent)) - before < 64 * MIB);
  client.socket.terminate();
});

test("directories are removed however deeply they are nested, and however long their paths are", async () => {
  // Fewer descriptors than levels, since a level must cost none, nor any room on a stack.
  await using agent = await TestAgent.start({ prefix: ["prlimit", "--nofile=700:700"] });
  await using client = await RpcClient.connect(agent.socketPath);
  const nest = `import os, sys
os.chdir(sys.argv[1])
for _ in range(int(sys.argv[2])):
    os.mkdir(sys.argv[3]); os.chdir(sys.argv[3])
open("file", "w").close()`;
  for (const [name, depth, part] of [
    ["deep", "1000", "d"],
    ["long", "60", "d".repeat(250)],
    ["ordinary", "3", "d"],
  ] as const) {
    await mkdir(join(agent.home, name));
    await promisify(execFile)("python3", ["-c", nest, join(agent.home, name), depth, part]);
    await client.ok("remove", { path: name, options: { recursive: true } });
    await assert.rejects(stat(join(agent.home, name)), { code: "ENOENT" });
  }
  const { constructorName } = await client.failure("remove", { path: "nothing", options: { recursive: true } });
  assert.equal(constructorName, "NotFound");
});

test("patterns that try very many ways come to an end", async () => {
  await using agent = await TestAgent.start();
  await using client = await RpcClient.connect(agent.socketPath);
  await using other = await RpcClient.connect(agent.socketPath);
  await writeFile(join(agent.home, `${"a".repeat(60)}!`), "");
  for (const [method, params] of [
    ["walk", { path: ".", match: [{ source: "(a+)+$", flags: "" }] }],
    ["expandGlob", { glob: "+(+(a))b" }],
  ] as const) {
    const { streamId } = (await client.ok(method, params)) as { readonly streamId: number };
    assert.deepEqual(await client.chunks(streamId), [], method);
    assert.equal(await other.ok("envGet", { key: "x" }), null);
  }
});
