// Files: read, write, list, walk, open, upload and download.
import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { Writable } from "node:stream";
import { Sandbox, SeekMode } from "@deno/sandbox";

const local = fs.mkdtempSync(path.join(os.tmpdir(), "caisson-docs-"));
try {
  await using sandbox = await Sandbox.create();

  await sandbox.fs.writeTextFile("hello.txt", "Hello world\n");
  console.log((await sandbox.fs.readTextFile("hello.txt")).trim());
  assert.equal((await sandbox.sh`pwd`.text()).trim(), "/home/app");

  const data = new Uint8Array([1, 2, 3]);
  await sandbox.fs.writeFile("data.bin", data, { mode: 0o777 });
  assert.deepEqual(await sandbox.fs.readFile("data.bin", { signal: AbortSignal.timeout(3000) }), data);

  await sandbox.fs.mkdir("nested/directories", { recursive: true });
  const names: string[] = [];
  for await (const entry of sandbox.fs.readDir(".")) if (!entry.name.startsWith(".")) names.push(entry.name);
  assert.deepEqual(names.sort(), ["data.bin", "hello.txt", "nested"]);

  {
    await using file = await sandbox.fs.open("seek.bin", { read: true, write: true, truncate: true, create: true });
    await file.write(new Uint8Array([0, 1, 2, 3, 4, 5]));
    assert.equal(await file.seek(2, SeekMode.Start), 2);
    const buffer = new Uint8Array(100);
    assert.equal(await file.read(buffer), 4);
  }

  await sandbox.fs.symlink("hello.txt", "link.txt");
  assert.equal(await sandbox.fs.realPath("./link.txt"), "/home/app/hello.txt");
  assert.equal((await sandbox.fs.lstat("link.txt")).isSymlink, true);

  fs.mkdirSync(path.join(local, "my-project/src"), { recursive: true });
  fs.writeFileSync(path.join(local, "my-project/src/main.ts"), "export {};\n");
  await sandbox.fs.upload(path.join(local, "my-project"), ".");
  assert.equal(await sandbox.fs.readTextFile("my-project/src/main.ts"), "export {};\n");
  await sandbox.fs.download("hello.txt", path.join(local, "copy.txt"));
  assert.equal(fs.readFileSync(path.join(local, "copy.txt"), "utf8"), "Hello world\n");

  // Stream the output of a command into a local file.
  await sandbox.fs.writeTextFile("big.txt", "#".repeat(5_000_000));
  const child = await sandbox.spawn("cat", { args: ["big.txt"], stdout: "piped" });
  const file = fs.createWriteStream(path.join(local, "big.txt"));
  await child.stdout?.pipeTo(Writable.toWeb(file) as WritableStream<Uint8Array>);
  assert.equal((await child.status).success, true);
  assert.equal(fs.statSync(path.join(local, "big.txt")).size, 5_000_000);
} finally {
  fs.rmSync(local, { recursive: true });
}
