import assert from "node:assert/strict";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { useAgent } from "../../tests/agent-fixture.ts";
import { eventually } from "../../tests/eventually.ts";
import { RpcClient } from "../../tests/rpc-client.ts";

const at = useAgent();

const base64 = (text: string) => Buffer.from(text).toString("base64");
const READ_WRITE = { read: true, write: true, create: true };

async function open(path: string, options?: object | null, client = at.client): Promise<number> {
  const { fileHandleId } = (await client.ok("open", { path, options })) as { fileHandleId: number };
  assert.equal(typeof fileHandleId, "number");
  return fileHandleId;
}

async function read(fileHandleId: number, length: number): Promise<string | null> {
  const { data } = (await at.client.ok("fileRead", { fileHandleId, length })) as { data: string | null };
  return data === null ? null : Buffer.from(data, "base64").toString();
}

async function seek(fileHandleId: number, offset: number | string, whence: number): Promise<number> {
  return ((await at.client.ok("fileSeek", { fileHandleId, offset, whence })) as { position: number }).position;
}

test("a handle writes, seeks and reads, and its end is null", async () => {
  const fileHandleId = await open(`${at.name}/a`, READ_WRITE);
  assert.deepEqual(await at.client.ok("fileWrite", { fileHandleId, data: base64("hello world") }), {
    bytesWritten: 11,
  });
  assert.equal(await seek(fileHandleId, 0, 0), 0);
  assert.equal(await read(fileHandleId, 5), "hello");
  assert.equal(await seek(fileHandleId, 1, 1), 6);
  assert.equal(await read(fileHandleId, 100), "world");
  assert.equal(await read(fileHandleId, 100), null);
  assert.equal(await seek(fileHandleId, -5, 2), 6);
  assert.equal(await read(fileHandleId, 0), "");
  assert.equal(await seek(fileHandleId, "2", 0), 2);
  assert.equal(await seek(fileHandleId, "8796093022208", 0), 8796093022208);
  const { position } = (await at.client.ok("fileSeek", { fileHandleId, offset: "-1", whence: 2 })) as {
    position: number;
  };
  assert.equal(position, 10);
  assert.equal((await at.client.failure("fileSeek", { fileHandleId, offset: -1, whence: 0 })).code, "EINVAL");
  assert.equal(await at.client.ok("fileClose", { fileHandleId }), null);
});

test("a read gives at most what Python can receive in one message", async () => {
  await writeFile(join(at.directory, "a"), Buffer.alloc(1_000_000, "x"));
  const fileHandleId = await open(`${at.name}/a`);
  const first = await read(fileHandleId, 1_000_000);
  const second = await read(fileHandleId, 1_000_000);
  assert.equal(first?.length, 512 * 1024);
  assert.equal(second?.length, 1_000_000 - 512 * 1024);
  assert.equal(await read(fileHandleId, 1_000_000), null);
});

test("a handle is truncated with either name of the length, and examined", async () => {
  const fileHandleId = await open(`${at.name}/a`, READ_WRITE);
  await at.client.ok("fileWrite", { fileHandleId, data: base64("hello world") });
  const size = async () => ((await at.client.ok("fileStat", { fileHandleId })) as { size: number }).size;
  assert.equal(await size(), 11);
  await at.client.ok("fileTruncate", { fileHandleId, len: 7 });
  assert.equal(await size(), 7);
  await at.client.ok("fileTruncate", { fileHandleId, size: 3 });
  assert.equal(await size(), 3);
  await at.client.ok("fileTruncate", { fileHandleId, len: null });
  assert.equal(await size(), 0);
  assert.equal(await at.client.ok("fileSync", { fileHandleId }), null);
  assert.equal(await at.client.ok("fileSyncData", { fileHandleId }), null);
  await at.client.ok("fileUtime", { fileHandleId, atime: "2001-02-03T04:05:06.000Z", mtime: 1_000_000_000 });
  const { atime, mtime } = await stat(join(at.directory, "a"));
  assert.deepEqual(
    [atime.toISOString(), mtime.toISOString()],
    ["2001-02-03T04:05:06.000Z", "2001-09-09T01:46:40.000Z"],
  );
});

test("options decide what opening does", async () => {
  const path = `${at.name}/a`;
  assert.equal((await at.client.failure("open", { path })).code, "ENOENT");
  await writeFile(join(at.directory, "a"), "content");
  for (const options of [undefined, null, {}, { read: null, write: null }, { read: true }]) {
    const fileHandleId = await open(path, options);
    assert.equal(await read(fileHandleId, 100), "content");
    assert.equal((await at.client.failure("fileWrite", { fileHandleId, data: base64("x") })).code, "EBADF");
  }
  const appending = await open(path, { append: true });
  await at.client.ok("fileWrite", { fileHandleId: appending, data: base64("!") });
  assert.equal(await readFile(join(at.directory, "a"), "utf8"), "content!");
  assert.equal((await at.client.failure("open", { path, options: { write: true, createNew: true } })).code, "EEXIST");
  const truncating = await open(path, { write: true, truncate: true });
  await at.client.ok("fileClose", { fileHandleId: truncating });
  assert.equal(await readFile(join(at.directory, "a"), "utf8"), "");
  await open(`${at.name}/b`, { write: true, createNew: true, create: false, truncate: true, mode: 0o600 });
  assert.equal((await stat(join(at.directory, "b"))).mode & 0o7777, 0o600);
  assert.equal((await at.client.failure("open", { path: at.name, options: { write: true } })).code, "EISDIR");
});

test("creating truncates and allows reading as well", async () => {
  await writeFile(join(at.directory, "a"), "old");
  const { fileHandleId } = (await at.client.ok("create", { path: `${at.name}/a` })) as { fileHandleId: number };
  await at.client.ok("fileWrite", { fileHandleId, data: base64("new") });
  await seek(fileHandleId, 0, 0);
  assert.equal(await read(fileHandleId, 10), "new");
});

test("an unknown or closed handle is a bad resource for every method", async () => {
  const closed = await open(`${at.name}/a`, READ_WRITE);
  await at.client.ok("fileClose", { fileHandleId: closed });
  const calls: readonly (readonly [method: string, params: object])[] = [
    ["fileRead", { length: 1 }],
    ["fileWrite", { data: "" }],
    ["fileSeek", { offset: 0, whence: 0 }],
    ["fileStat", {}],
    ["fileSync", {}],
    ["fileSyncData", {}],
    ["fileTruncate", {}],
    ["fileLock", {}],
    ["fileUnlock", {}],
    ["fileUtime", { atime: 0, mtime: 0 }],
    ["fileClose", {}],
  ];
  for (const fileHandleId of [closed, 0, 999_999]) {
    for (const [method, params] of calls) {
      const error = await at.client.failure(method, { fileHandleId, ...params });
      assert.deepEqual([error.constructorName, error.code], ["BadResource", "EBADF"], method);
    }
  }
});

test("handles belong to their connection and are closed with it", async () => {
  const other = await RpcClient.connect(at.agent.socketPath);
  const fileHandleId = await open(`${at.name}/a`, READ_WRITE, other);
  await other.ok("fileLock", { fileHandleId, exclusive: true });
  assert.equal((await at.client.failure("fileStat", { fileHandleId })).constructorName, "BadResource");
  assert.equal(await isOpenInAgent(join(at.directory, "a")), true);
  await other.close();
  await eventually("the agent has closed the file", async () => !(await isOpenInAgent(join(at.directory, "a"))));
});

test("locks are shared or exclusive, wait without holding up other calls, and are let go", async () => {
  const first = await open(`${at.name}/a`, READ_WRITE);
  const second = await open(`${at.name}/a`, READ_WRITE);
  await at.client.ok("fileLock", { fileHandleId: first });
  await at.client.ok("fileLock", { fileHandleId: second, exclusive: false });
  await at.client.ok("fileUnlock", { fileHandleId: second });
  await at.client.ok("fileUnlock", { fileHandleId: first });

  await at.client.ok("fileLock", { fileHandleId: first, exclusive: true });
  const waiting = at.client.request("fileLock", { fileHandleId: second, exclusive: true });
  assert.equal(((await at.client.ok("fileStat", { fileHandleId: second })) as { size: number }).size, 0);
  assert.equal(
    at.client.frames.find((frame) => frame.id === waiting),
    undefined,
    "the second lock waits",
  );
  await at.client.ok("fileUnlock", { fileHandleId: first });
  assert.deepEqual((await at.client.answer(waiting)).result, { ok: null });
  await at.client.ok("fileClose", { fileHandleId: second });
  await at.client.ok("fileLock", { fileHandleId: first, exclusive: true });
});

test("a hundred waiting locks leave the agent able to work, and get their turn", async () => {
  const holder = await open(`${at.name}/a`, READ_WRITE);
  await at.client.ok("fileLock", { fileHandleId: holder, exclusive: true });
  const handles = await Promise.all(Array.from({ length: 100 }, () => open(`${at.name}/a`, READ_WRITE)));
  const waiting = handles.map((fileHandleId) => at.client.ok("fileLock", { fileHandleId }));
  await at.client.ok("writeTextFile", { path: `${at.name}/b`, content: "works" });
  assert.equal(await at.client.ok("readTextFile", { path: `${at.name}/b` }), "works");
  await at.client.ok("fileUnlock", { fileHandleId: holder });
  await Promise.all(waiting);
});

async function isOpenInAgent(path: string): Promise<boolean> {
  const { readdir, readlink } = await import("node:fs/promises");
  const directory = `/proc/${at.agent.process.pid}/fd`;
  const targets = (await readdir(directory)).map((fd) => readlink(join(directory, fd)).catch(() => ""));
  return (await Promise.all(targets)).includes(path);
}
