import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { appendFileSync, rmSync } from "node:fs";
import {
  chmod,
  link,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { errors, Sandbox, SeekMode, type SkippedFile, type TransferProgress } from "../src/index.ts";
import { AgentGateway } from "./agent-gateway.ts";
import { FakeSandbox } from "./fake-sandbox.ts";

let gateway: AgentGateway;
let sandbox: Sandbox;
let local: string;
before(async () => {
  gateway = await AgentGateway.start();
  sandbox = await Sandbox.create(gateway.options);
  local = await mkdtemp(join(tmpdir(), "caisson-sdk-"));
});
after(async () => {
  await sandbox.close();
  await gateway[Symbol.asyncDispose]();
  await rm(local, { recursive: true });
});

test("bytes and text come back as they were written, small and large, whole and as streams", async () => {
  const { fs } = sandbox;
  const large = new Uint8Array(randomBytes(5_000_000));
  for (const data of [new Uint8Array(), new Uint8Array([0, 255, 10]), large]) {
    await fs.writeFile("bytes", data);
    assert.ok(Buffer.from(await fs.readFile("bytes")).equals(Buffer.from(data)));
    await fs.writeFile("bytes", new Response(data).body ?? new ReadableStream());
    assert.ok(Buffer.from(await fs.readFile("bytes")).equals(Buffer.from(data)));
  }
  for (const text of ["", "Grüße, 世界 🌍\n", "世界".repeat(1_000_000)]) {
    await fs.writeTextFile("text", text);
    assert.equal(await fs.readTextFile("text"), text);
    await fs.writeTextFile("text", ReadableStream.from([...(text === "" ? [] : [text.slice(0, 7), text.slice(7)])]));
    assert.equal(await fs.readTextFile("text"), text);
  }
});

test("chunks that come slowly, and none at all, are written", async () => {
  const slow = ReadableStream.from(
    (async function* () {
      for (const text of ["a", "b", "c"]) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        yield text;
      }
    })(),
  );
  await sandbox.fs.writeTextFile("slow", slow);
  assert.equal(await sandbox.fs.readTextFile("slow"), "abc");
  await sandbox.fs.writeFile("empty", new ReadableStream({ start: (controller) => controller.close() }));
  assert.equal((await sandbox.fs.stat("empty")).size, 0);
});

test("a source that fails makes the writing fail, and a writing that fails cancels the source", async () => {
  const failing = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.error(new RangeError("no more")),
  });
  await assert.rejects(sandbox.fs.writeFile("failing", failing), { message: /no more/ });

  let reason: unknown;
  const endless = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new Uint8Array(1000)),
    cancel: (why) => {
      reason = why;
    },
  });
  await assert.rejects(sandbox.fs.writeFile("no/such/directory", endless), { code: "ENOENT" });
  assert.ok(reason !== undefined);
  const signal = AbortSignal.timeout(50);
  await assert.rejects(sandbox.fs.writeFile("endless", endless2(), { signal }), { name: "TimeoutError" });
});

function endless2(): ReadableStream<Uint8Array> {
  return new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1000)) });
}

test("options of writing are honoured", async () => {
  const { fs } = sandbox;
  await fs.writeTextFile("options", "a", { mode: 0o600 });
  assert.equal((await fs.stat("options")).mode & 0o777, 0o600);
  await fs.writeTextFile("options", "b", { append: true });
  assert.equal(await fs.readTextFile("options"), "ab");
  await assert.rejects(fs.writeTextFile("options", "c", { createNew: true }), { name: "AlreadyExists" });
  await assert.rejects(fs.writeTextFile("absent", "c", { create: false }), { name: "NotFound" });
});

test("directories, links, permissions, times and temporary files work", async () => {
  const { fs } = sandbox;
  await fs.mkdir("tree/below", { recursive: true });
  await assert.rejects(fs.mkdir("tree"), { name: "AlreadyExists" });
  await fs.writeTextFile("tree/file", "x");
  await fs.symlink("file", "tree/link");
  await fs.link("tree/file", "tree/hard");
  const names: string[] = [];
  for await (const entry of fs.readDir("tree")) names.push(entry.name);
  assert.deepEqual(names.sort(), ["below", "file", "hard", "link"]);
  assert.equal(await fs.readLink("tree/link"), "file");
  assert.equal(await fs.realPath("tree/link"), join(gateway.home, "tree/file"));
  assert.equal((await fs.lstat("tree/link")).isSymlink, true);
  assert.equal((await fs.stat("tree/link")).nlink, 2);
  await fs.chmod("tree/file", 0o640);
  await fs.chown("tree/file", null, null);
  await fs.utime("tree/file", 1_556_495_550, new Date(1_556_495_551_000));
  const info = await fs.stat("tree/file");
  assert.deepEqual([info.atime.getTime(), info.mtime.getTime()], [1_556_495_550_000, 1_556_495_551_000]);
  await fs.copyFile("tree/file", "tree/copy");
  await fs.rename("tree/copy", "tree/moved");
  await fs.truncate("tree/moved", 3);
  assert.deepEqual(await fs.readFile("tree/moved"), new Uint8Array([120, 0, 0]));
  await assert.rejects(fs.remove("tree"), Error);
  await fs.remove("tree", { recursive: true });
  await assert.rejects(fs.stat("tree"), { name: "NotFound", code: "ENOENT" });
  assert.match(await fs.makeTempDir({ prefix: "p-", suffix: "-s", dir: gateway.home }), /\/p-[^/]+-s$/);
  assert.equal((await fs.stat(await fs.makeTempFile({ dir: gateway.home }))).isFile, true);
  const old = await fs.umask(0o077);
  assert.equal(await fs.umask(old), 0o077);
});

test("walking and globbing yield entries, honour patterns and may be left early", async () => {
  const { fs } = sandbox;
  await fs.mkdir("walk/deep/deeper", { recursive: true });
  for (const name of ["walk/a.ts", "walk/deep/b.ts", "walk/deep/deeper/c.js"]) await fs.writeTextFile(name, "");
  const paths: string[] = [];
  for await (const { path } of fs.walk("walk", { match: [/\.TS$/i], includeDirs: false })) paths.push(path);
  assert.deepEqual(paths.sort(), ["walk/a.ts", "walk/deep/b.ts"]);
  const found: string[] = [];
  for await (const { path } of fs.expandGlob("walk/**/*.{ts,js}")) found.push(path.slice(gateway.home.length));
  assert.deepEqual(found, ["/walk/a.ts", "/walk/deep/b.ts", "/walk/deep/deeper/c.js"]);
  for await (const entry of fs.walk("walk")) {
    assert.equal(entry.isDirectory, true);
    break;
  }
  await assert.rejects(
    async () => {
      for await (const _entry of fs.walk("absent"));
    },
    { name: "NotFound" },
  );
});

test("an open file is written, positioned, read, measured, cut, locked and closed", async () => {
  await using file = await sandbox.fs.open("handle", { read: true, write: true, create: true, truncate: true });
  assert.equal(await file.write(new Uint8Array([0, 1, 2, 3, 4, 5])), 6);
  assert.equal(await file.seek(2n, SeekMode.Start), 2);
  const buffer = new Uint8Array(100);
  assert.equal(await file.read(buffer), 4);
  assert.deepEqual(buffer.subarray(0, 4), new Uint8Array([2, 3, 4, 5]));
  assert.equal(await file.read(buffer), null);
  assert.equal(await file.seek(-4, SeekMode.End), 2);
  await file.truncate(3);
  assert.equal((await file.stat()).size, 3);
  await file.sync();
  await file.syncData();
  await file.utime(1, 2);
  await file.lock(true);
  await file.unlock();
  await file.close();
  await file.close();
  await assert.rejects(file.stat(), { name: "BadResource" });
});

test("the streams of an open file carry everything", async () => {
  await using file = await sandbox.fs.create("streamed");
  const data = new Uint8Array(randomBytes(300_000));
  await new Response(data).body?.pipeTo(file.writable);
  await file.seek(0, SeekMode.Start);
  assert.ok(Buffer.from(await new Response(file.readable).arrayBuffer()).equals(Buffer.from(data)));
});

test("a directory goes up and comes down with contents, permissions, links and empty directories", async () => {
  const source = join(local, "project");
  await mkdir(join(source, "src/empty"), { recursive: true });
  const content = randomBytes(700_000);
  await writeFile(join(source, "src/data.bin"), content);
  await writeFile(join(source, "run.sh"), "#!/bin/sh\n");
  await chmod(join(source, "run.sh"), 0o755);
  await symlink("src/data.bin", join(source, "relative"));
  await symlink(join(source, "src/data.bin"), join(source, "absolute"));
  await symlink("/nonexistent", join(source, "broken"));

  const steps: TransferProgress[] = [];
  await sandbox.fs.upload(source, "uploads/here", { onProgress: (progress) => steps.push(progress) });
  const last = steps.at(-1);
  assert.deepEqual([last?.transferredBytes, last?.completedFiles], [700_010, 2]);
  assert.equal((await sandbox.fs.stat("uploads/here/project/run.sh")).mode & 0o777, 0o755);
  assert.equal((await sandbox.fs.stat("uploads/here/project/src/empty")).isDirectory, true);
  assert.equal(await sandbox.fs.readLink("uploads/here/project/relative"), "src/data.bin");
  assert.equal(await sandbox.fs.readLink("uploads/here/project/absolute"), "src/data.bin");
  assert.equal(await sandbox.fs.readLink("uploads/here/project/broken"), "/nonexistent");

  await sandbox.fs.download("uploads/here/project", pathToFileURL(join(local, "back")));
  const back = join(local, "back/project");
  assert.ok((await readFile(join(back, "src/data.bin"))).equals(content));
  assert.equal((await stat(join(back, "run.sh"))).mode & 0o777, 0o755);
  assert.ok((await stat(join(back, "src/empty"))).isDirectory());
  assert.equal(await readlink(join(back, "absolute")), "src/data.bin");
  assert.ok((await lstat(join(back, "broken"))).isSymbolicLink());
});

test("a file goes up and comes down under the name that is asked for", async () => {
  const path = join(local, "one.txt");
  await writeFile(path, "one", { mode: 0o640 });
  await sandbox.fs.upload(path, "./two.txt");
  assert.equal(await sandbox.fs.readTextFile("two.txt"), "one");
  await sandbox.fs.download("two.txt", join(local, "three.txt"));
  assert.equal(await readFile(join(local, "three.txt"), "utf8"), "one");
  assert.equal((await stat(join(local, "three.txt"))).mode & 0o777, 0o640);
  await assert.rejects(sandbox.fs.upload(join(local, "absent"), "x"), { code: "ENOENT" });
  await assert.rejects(sandbox.fs.download("absent", join(local, "x")), { code: "ENOENT" });
});

test("an aborted transfer stops", async () => {
  const signal = AbortSignal.abort(new Error("enough"));
  await assert.rejects(sandbox.fs.upload(join(local, "project"), "aborted", { signal }), /enough/);
  await assert.rejects(sandbox.fs.download("uploads", join(local, "aborted"), { signal }), /enough/);
});

test("a tree that is transferred again replaces what is there, and links of the earlier one are not followed", async () => {
  const target = join(local, "replaced");
  const victim = join(local, "victim");
  await mkdir(victim);
  await writeFile(join(victim, "file"), "precious");
  await sandbox.sh`mkdir -p again && ln -s ${join(victim, "file")} again/file && ln -s ${victim} again/directory`;
  await sandbox.fs.download("again", target);
  await sandbox.fs.download("again", target);
  assert.equal(await readlink(join(target, "again", "directory")), victim);
  await sandbox.fs.upload(join(target, "again"), ".");
  assert.equal(await sandbox.fs.readLink("again/directory"), victim);

  await sandbox.sh`rm again/file again/directory && echo new > again/file && mkdir again/directory && echo new > again/directory/file`;
  await sandbox.fs.download("again", target);
  assert.equal(await readFile(join(target, "again", "file"), "utf8"), "new\n");
  assert.equal(await readFile(join(target, "again", "directory", "file"), "utf8"), "new\n");
  assert.equal(await readFile(join(victim, "file"), "utf8"), "precious");
});

test("a sandbox that lies about paths writes nothing outside the directory of the download", async () => {
  const info = {
    isFile: false,
    isDirectory: true,
    isSymlink: false,
    mtime: "",
    atime: "",
    birthtime: "",
    ctime: "",
    mode: 0o644,
  };
  for (const name of ["../outside", "/elsewhere", "..", ".", "", "a/../../outside", "a\0b"]) {
    await using fake = await FakeSandbox.start({
      realPath: () => "/root",
      lstat: () => info,
      readDir: () => [{ name, isFile: true, isDirectory: false, isSymlink: false }],
      readFile: () => "",
    });
    await using liar = await Sandbox.create({ ...fake.options, timeout: "1m" });
    await assert.rejects(liar.fs.download("/root", join(local, "liar")), /Refused to copy/, name);
  }
});

test("special files on this machine are skipped with a note, and nothing waits for them", async () => {
  const source = join(local, "special");
  await mkdir(join(source, "sub"), { recursive: true });
  await writeFile(join(source, "file"), "x");
  execFileSync("mkfifo", [join(source, "pipe"), join(source, "sub/pipe")]);
  const socket = createServer().listen(join(source, "socket"));
  await once(socket, "listening");
  execFileSync("mknod", [join(source, "device"), "c", "1", "3"]);
  await symlink("pipe", join(source, "link"));
  const skipped: SkippedFile[] = [];
  await sandbox.fs.upload(source, ".", { onSkip: (file) => skipped.push(file) });
  socket.close();
  assert.deepEqual(skipped.map(({ path, reason }) => [path.slice(source.length), reason]).sort(), [
    ["/device", "device"],
    ["/pipe", "pipe"],
    ["/socket", "socket"],
    ["/sub/pipe", "pipe"],
  ]);
  assert.equal(skipped[0]?.message.startsWith("Skipped "), true);
  assert.equal((await sandbox.sh`cd special && find . | sort`.text()).trim(), ".\n./file\n./link\n./sub");

  const warnings: Error[] = [];
  process.on("warning", (warning) => warnings.push(warning));
  await sandbox.fs.upload(join(source, "sub"), "warned");
  await new Promise((resolve) => setImmediate(resolve));
  process.removeAllListeners("warning");
  assert.match(warnings[0]?.message ?? "", /^Skipped ".*\/special\/sub\/pipe": it is a named pipe\. Pass onSkip/);
  await assert.rejects(sandbox.fs.upload(join(source, "pipe"), "x"), /it is a named pipe/);
});

test("special files in a sandbox are skipped with a note, and nothing waits for them", async () => {
  await sandbox.sh`mkdir -p odd/sub && mkfifo odd/pipe odd/sub/pipe && mknod odd/device c 1 3 && echo x > odd/file`;
  await sandbox.sh`python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("odd/socket")'`;
  const skipped: string[] = [];
  await sandbox.fs.download("odd", join(local, "from"), {
    onSkip: ({ path, reason }) => skipped.push(`${path.slice(gateway.home.length)} ${reason}`),
  });
  assert.deepEqual(skipped.sort(), [
    "/odd/device device",
    "/odd/pipe pipe",
    "/odd/socket socket",
    "/odd/sub/pipe pipe",
  ]);
  assert.deepEqual((await readdir(join(local, "from/odd"))).sort(), ["file", "sub"]);
  await assert.rejects(sandbox.fs.download("odd/pipe", join(local, "x")), /it is a named pipe/);
});

test("special files that are in the way of a copy are replaced, on either side", async () => {
  const source = join(local, "replacing");
  await mkdir(source);
  await writeFile(join(source, "small"), "small");
  await writeFile(join(source, "large"), randomBytes(600_000));
  await sandbox.sh`mkdir replacing && mkfifo replacing/small replacing/large`;
  await sandbox.fs.upload(source, ".");
  assert.equal(await sandbox.fs.readTextFile("replacing/small"), "small");
  assert.equal((await sandbox.fs.lstat("replacing/large")).size, 600_000);
  const target = join(local, "way");
  await mkdir(join(target, "replacing"), { recursive: true });
  execFileSync("mkfifo", [join(target, "replacing/small"), join(target, "replacing/large")]);
  await sandbox.fs.download("replacing", target);
  assert.equal(await readFile(join(target, "replacing/small"), "utf8"), "small");
  assert.ok((await readFile(join(target, "replacing/large"))).equals(await readFile(join(source, "large"))));
  await assert.rejects(sandbox.fs.download("odd/file", join(local, "special/pipe")), /named pipe or a socket/);
  await sandbox.fs.download("odd/file", "/dev/null");
  assert.equal((await stat("/dev/null")).mode & 0o777, 0o666);
});

test("names that are not UTF-8 are copied in both directions, and every call takes what a listing gives", async () => {
  const source = join(local, "names");
  await mkdir(source);
  const raw = (directory: string, text: string) =>
    Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(text, "latin1")]);
  await writeFile(raw(source, "file-\xff"), "small");
  await writeFile(raw(source, "large-\xfe"), randomBytes(700_000));
  await mkdir(raw(source, "directory-\xff"));
  await writeFile(raw(source, "directory-\xff/caf\xe9"), "inside");
  await symlink("good-\ufffd", raw(source, "link-\xff"));
  await symlink(Buffer.from("file-\xff", "latin1"), join(source, "link-to-raw"));
  await writeFile(join(source, "good-\ufffd"), "its name is this");
  const skipped: SkippedFile[] = [];
  const onSkip = (file: SkippedFile) => skipped.push(file);
  await sandbox.fs.upload(source, ".", { onSkip });
  const list = (directory: string) =>
    execFileSync("sh", ["-c", "cd $0 && LC_ALL=C find . -printf '%P %y %l\\n' | LC_ALL=C sort | od -c", directory], {
      encoding: "utf8",
    });
  const expected = list(source);
  const listing = "cd names && LC_ALL=C find . -printf '%P %y %l\\n' | LC_ALL=C sort | od -c";
  const inside = await sandbox.spawn("sh", { args: ["-c", listing], stdout: "piped" });
  assert.equal((await inside.output()).stdoutText, expected);
  await sandbox.fs.download("names", join(local, "names-back"), { onSkip });
  assert.equal(list(join(local, "names-back/names")), expected);
  assert.ok(
    (await readFile(raw(join(local, "names-back/names"), "large-\xfe"))).equals(
      await readFile(raw(source, "large-\xfe")),
    ),
  );
  assert.deepEqual(skipped, []);

  const { fs } = sandbox;
  const home = await fs.realPath(".");
  assert.equal(await fs.readTextFile("names/good-\ufffd"), "its name is this");
  const names = (await Array.fromAsync(fs.readDir("names"))).map(({ name }) => name).sort();
  assert.deepEqual(
    names,
    ["directory-\udcff", "file-\udcff", "good-\ufffd", "large-\udcfe", "link-\udcff", "link-to-raw"].sort(),
  );
  const walked = (await Array.fromAsync(fs.walk("names"))).map(({ path }) => path);
  assert.ok(walked.includes("names/directory-\udcff/caf\udce9"), JSON.stringify(walked));
  const globbed = (await Array.fromAsync(fs.expandGlob("names/**/caf*"))).map(({ path }) => path);
  assert.deepEqual(globbed, [`${home}/names/directory-\udcff/caf\udce9`]);
  const inner = "names/directory-\udcff/caf\udce9";
  assert.equal(await fs.readTextFile(inner), "inside");
  await fs.writeTextFile(inner, "written");
  await fs.writeTextFile("names/new-\udc80", "new", { createNew: true, mode: 0o600 });
  await assert.rejects(fs.writeTextFile("names/new-\udc80", "", { createNew: true }), errors.AlreadyExists);
  assert.equal((await fs.stat("names/new-\udc80")).mode & 0o777, 0o600);
  await fs.copyFile(inner, "names/copy-\udc81");
  {
    await using file = await fs.open("names/copy-\udc81", { read: true, write: true });
    const bytes = new Uint8Array(20);
    assert.equal(await file.read(bytes), 7);
  }
  await fs.mkdir("names/a-\udc82/b/c-\udc83", { recursive: true });
  await fs.rename("names/copy-\udc81", "names/a-\udc82/b/moved");
  await fs.chmod("names/a-\udc82/b/moved", 0o640);
  await fs.truncate("names/a-\udc82/b/moved", 3);
  await fs.utime("names/a-\udc82/b/moved", 1000, new Date(2000_000));
  await fs.chown("names/a-\udc82/b/moved", null, null);
  const moved = await fs.stat("names/a-\udc82/b/moved");
  assert.deepEqual([moved.size, moved.mode & 0o777, moved.mtime?.getTime()], [3, 0o640, 2000_000]);
  await fs.symlink("\udcff", "names/text-\udc84");
  assert.equal((await fs.lstat("names/text-\udc84")).isSymlink, true);
  assert.equal(await fs.readLink("names/text-\udc84"), "\udcff");
  assert.equal(await fs.readLink("names/link-to-raw"), "file-\udcff");
  assert.equal(await fs.realPath("names/link-to-raw"), `${home}/names/file-\udcff`);
  await fs.link(inner, "names/hard-\udc85");
  assert.equal((await fs.stat("names/hard-\udc85")).nlink, 2);
  await assert.rejects(fs.readTextFile("names/none-\udcff"), errors.NotFound);
  await assert.rejects(fs.remove("names/a-\udc82"), { code: "ENOTEMPTY" });
  await fs.remove("names/text-\udc84");
  await fs.remove("names/a-\udc82", { recursive: true });
  await fs.remove("names", { recursive: true });
  assert.equal((await sandbox.sh`ls -A | grep -c caisson || ls -d names 2>/dev/null || true`.text()).trim(), "0");
});

test("permissions of files and directories are kept, read-only ones too, and copying again changes nothing", async () => {
  const source = join(local, "modes");
  await mkdir(join(source, "closed/inner"), { recursive: true });
  await writeFile(join(source, "closed/inner/read-only"), "first");
  await writeFile(join(source, "closed/large"), randomBytes(400_000));
  await chmod(join(source, "closed/inner/read-only"), 0o444);
  await chmod(join(source, "closed/large"), 0o400);
  await chmod(join(source, "closed/inner"), 0o555);
  await chmod(join(source, "closed"), 0o551);
  await link(join(source, "closed/large"), join(source, "second-name"));
  const listing = "closed 551\nclosed/inner 555\nclosed/inner/read-only 444\nclosed/large 400\nsecond-name 400\n";
  for (let round = 0; round < 2; round += 1) {
    await sandbox.fs.upload(source, ".");
    assert.equal(await sandbox.sh`cd modes && find . -mindepth 1 -printf '%P %m\\n' | sort`.text(), listing);
    await sandbox.fs.download("modes", join(local, "modes-back"));
    const find = ["-mindepth", "1", "-printf", "%P %m\n"];
    const found = execFileSync("find", [join(local, "modes-back/modes"), ...find], { encoding: "utf8" });
    assert.equal(found.split("\n").sort().join("\n").trim(), listing.trim());
  }
  assert.equal(await readFile(join(local, "modes-back/modes/closed/inner/read-only"), "utf8"), "first");
});

test("a sparse file of the sandbox takes no room for its holes here", async () => {
  await sandbox.sh`mkdir sparse && truncate -s 20M sparse/file && printf end >> sparse/file`;
  await sandbox.fs.download("sparse", local);
  const info = await stat(join(local, "sparse/file"));
  assert.equal(info.size, 20 * 2 ** 20 + 3);
  assert.ok(info.blocks * 512 < 2 * 2 ** 20, `${info.blocks} blocks`);
});

test("files with holes have them in every copy: up, down and from sandbox to sandbox, alone and in a tree, and the data is the same", async () => {
  const source = join(local, "with-holes");
  await mkdir(source);
  // Data of odd lengths at odd places, a small hole, a large one, and one at the end.
  const file = await open(join(source, "file"), "w");
  for (const [text, position] of [
    ["begin", 0],
    ["x".repeat(5000), 12_000],
    ["middle", 40 * 2 ** 20 + 3],
  ] as const)
    await file.write(text, position);
  await file.truncate(80 * 2 ** 20 + 1);
  await file.close();
  await writeFile(join(source, "hole"), "");
  await truncate(join(source, "hole"), 3 * 2 ** 20);
  await writeFile(join(source, "zeros"), Buffer.alloc(2 ** 20));
  const sum = (path: string) => execFileSync("sha256sum", [path], { encoding: "utf8" }).slice(0, 64);
  const sums = ["file", "hole", "zeros"].map((name) => sum(join(source, name)));
  const inside = async (directory: string) => {
    const sizes = await sandbox.sh`cd ${directory} && stat -c "%n %s %b" file hole zeros`.text();
    const found = sizes
      .trim()
      .split("\n")
      .map((line) => line.split(" "));
    assert.deepEqual(
      found.map(([, size]) => Number(size)),
      [80 * 2 ** 20 + 1, 3 * 2 ** 20, 2 ** 20],
    );
    const blocks = found.map(([, , count]) => Number(count) * 512);
    assert.ok((blocks[0] ?? 0) <= 64 * 1024 && blocks[1] === 0 && (blocks[2] ?? 0) >= 2 ** 20, `${blocks}`);
    const text = await sandbox.sh`cd ${directory} && sha256sum file hole zeros | cut -c 1-64`.text();
    assert.deepEqual(text.trim().split("\n"), sums);
  };
  await sandbox.sh`mkdir holes`;
  await sandbox.fs.upload(source, "holes");
  await inside("holes/with-holes");
  for (const name of ["file", "hole", "zeros"]) await sandbox.fs.upload(join(source, name), `holes/${name}`);
  await inside("holes");
  await sandbox.fs.copyTo("holes/with-holes", sandbox.fs, "holes/again");
  await inside("holes/again/with-holes");
  await sandbox.fs.download("holes/with-holes", join(local, "back"));
  await sandbox.fs.download("holes/file", join(local, "back/alone"));
  for (const [index, name] of ["file", "hole", "zeros"].entries()) {
    const info = await stat(join(local, "back/with-holes", name));
    assert.equal(sum(join(local, "back/with-holes", name)), sums[index]);
    if (name !== "zeros") assert.ok(info.blocks * 512 <= 64 * 1024, `${name}: ${info.blocks}`);
    else assert.ok(info.blocks * 512 >= 2 ** 20);
  }
  assert.equal(sum(join(local, "back/alone")), sums[0]);
  // Over a longer file of other content.
  await sandbox.sh`yes | head -c 90000000 > holes/file`;
  await sandbox.fs.upload(join(source, "file"), "holes/file");
  await inside("holes");
});

test("what vanishes while it is copied is skipped, and a file that grows is copied as long as it was", async () => {
  const source = join(local, "changing");
  await mkdir(source);
  for (let number = 0; number < 200; number += 1) await writeFile(join(source, `f${number}`), "x");
  await writeFile(join(source, "growing"), randomBytes(1_000_000));
  const skipped: string[] = [];
  let isRemoved = false;
  await sandbox.fs.upload(source, ".", {
    onSkip: ({ reason }) => skipped.push(reason),
    onProgress: ({ path }) => {
      if (path.endsWith("growing")) appendFileSync(path, randomBytes(1000));
      if (isRemoved) return;
      isRemoved = true;
      for (let number = 0; number < 200; number += 1) rmSync(join(source, `f${number}`));
    },
  });
  assert.ok(skipped.length > 0);
  assert.deepEqual([...new Set(skipped)], ["gone"]);
  assert.equal((await sandbox.fs.stat("changing/growing")).size, 1_000_000);
  assert.ok((await stat(join(source, "growing"))).size > 1_000_000);
});

test("a tree goes from one sandbox to another with the same rules", async () => {
  await using other = await AgentGateway.start();
  await using target = await Sandbox.create(other.options);
  const skipped: string[] = [];
  await sandbox.fs.copyTo("odd", target.fs, "moved", { onSkip: ({ reason }) => skipped.push(reason) });
  assert.deepEqual(skipped.sort(), ["device", "pipe", "pipe", "socket"]);
  assert.equal(await target.fs.readTextFile("moved/odd/file"), "x\n");
  await sandbox.fs.copyTo("modes/closed/large", target.fs, "one");
  assert.equal((await target.fs.stat("one")).mode & 0o777, 0o400);
});
