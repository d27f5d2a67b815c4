import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { constants } from "node:fs";
import { mkdir, mkdtemp, open as openFile, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { objectStoreConformance } from "../testing/index.ts";
import { openObjectStore } from "./index.ts";

const S3_ONLY = { endpoint: null, region: null, isPathStyle: false, authorityPath: null };
const open = (directory: string) => openObjectStore({ url: pathToFileURL(directory).href, ...S3_ONLY });

objectStoreConformance("a directory", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-objects-"));
  return { open: () => open(directory), [Symbol.asyncDispose]: () => rm(directory, { recursive: true }) };
});

test("a directory that is not there is an error that says so, and is never made", async () => {
  const parent = await mkdtemp(join(tmpdir(), "caisson-objects-"));
  try {
    await using objects = await open(join(parent, "disk"));
    const refusal = { code: "SNAPSHOT_STORE_UNAVAILABLE", message: /directory is not there/ };
    await assert.rejects(objects.put("a/b", Buffer.of(1)), refusal);
    await assert.rejects(objects.get("a/b", 1), refusal);
    await assert.rejects(Array.fromAsync(objects.list("a/")), refusal);
    await assert.rejects(objects.delete("a/b"), refusal);
    assert.deepEqual(await readdir(parent), []);
  } finally {
    await rm(parent, { recursive: true });
  }
});

test("what a crash left half written is no object, and goes when no server can be writing it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-objects-"));
  try {
    await using objects = await open(directory);
    await objects.put("a/b", Buffer.from("whole"));
    for (const name of ["old", "new"]) await writeFile(join(directory, ".partial", name), "hal");
    await utimes(join(directory, ".partial", "old"), 1, 1);
    await using later = await open(directory);
    assert.deepEqual(await Array.fromAsync(later.list("a/"), ({ key }) => key), ["a/b"]);
    await later.put("a/c", Buffer.from("whole"));
    assert.deepEqual(await readdir(join(directory, ".partial")), ["new"]);
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("what is no object of ours is in no list, and nothing below it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-objects-"));
  try {
    await using objects = await open(directory);
    await objects.put("a/b", Buffer.from("whole"));
    for (const name of [".nfs0001", "a copy", "b~"]) await writeFile(join(directory, "a", name), "");
    for (const name of [".snapshot", "lost+found"]) {
      await mkdir(join(directory, "a", name));
      await writeFile(join(directory, "a", name, "b"), "");
    }
    assert.deepEqual(await Array.fromAsync(objects.list("a/"), ({ key }) => key), ["a/b"]);
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("a directory that hangs ends no later than the signal", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-objects-"));
  try {
    await using objects = await open(directory);
    await mkdir(join(directory, "a"));
    execFileSync("mkfifo", [join(directory, "a/b")]);
    // Somebody may write to it at any time, so that reading it does not end.
    await using _writer = await openFile(join(directory, "a/b"), constants.O_RDWR | constants.O_NONBLOCK);
    const reason = new Error("no longer wanted");
    const leaving = new AbortController();
    const reading = objects.get("a/b", 10, leaving.signal);
    setTimeout(() => leaving.abort(reason), 100);
    await assert.rejects(reading, reason);
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("an error tells tenants what kind it is, and the log where", async () => {
  const directory = await mkdtemp(join(tmpdir(), "caisson-objects-"));
  try {
    await using objects = await open(directory);
    await writeFile(join(directory, "a"), "no directory");
    await assert.rejects(objects.put("a/b", Buffer.of(1)), (error: Error) => {
      assert.equal(
        error.message,
        "Cannot use the snapshot store: it could not store an object. The server's log says why",
      );
      assert.ok(
        String(error.cause).includes(directory) && /a\/b: ENOTDIR/.test(String(error.cause)),
        String(error.cause),
      );
      return true;
    });
  } finally {
    await rm(directory, { recursive: true });
  }
});
