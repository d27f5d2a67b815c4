import assert from "node:assert/strict";
import { chmod, lstat, mkdir, readdir, readFile, readlink, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { useAgent } from "../../tests/agent-fixture.ts";

const at = useAgent();

test("a tilde is an ordinary character", async () => {
  assert.equal((await at.client.failure("readFile", { path: "~/nothing" })).code, "ENOENT");
  await mkdir(join(at.directory, "~"));
  await writeFile(join(at.directory, "~/a"), "tilde");
  assert.equal(await at.client.ok("readTextFile", { path: `${at.name}/~/a` }), "tilde");
});

test("directories are listed, made and removed", async () => {
  await at.client.ok("mkdir", { path: `${at.name}/d` });
  const existing = await at.client.failure("mkdir", { path: `${at.name}/d` });
  assert.deepEqual([existing.constructorName, existing.code], ["AlreadyExists", "EEXIST"]);
  await at.client.ok("mkdir", { path: `${at.name}/d`, options: { recursive: true } });
  await at.client.ok("mkdir", { path: `${at.name}/d/e/f`, options: { recursive: true, mode: 0o700 } });
  assert.equal((await stat(join(at.directory, "d/e/f"))).mode & 0o7777, 0o700);
  await at.client.ok("mkdir", { path: `${at.name}/g`, options: { mode: null, recursive: null } });
  await writeFile(join(at.directory, "file"), "");
  await symlink("file", join(at.directory, "link"));
  assert.equal(
    (await at.client.failure("mkdir", { path: `${at.name}/file`, options: { recursive: true } })).code,
    "EEXIST",
  );

  const entries = (await at.client.ok("readDir", { path: at.name })) as { name: string }[];
  assert.deepEqual(
    entries.sort((a, b) => a.name.localeCompare(b.name)),
    [
      { name: "d", isFile: false, isDirectory: true, isSymlink: false },
      { name: "file", isFile: true, isDirectory: false, isSymlink: false },
      { name: "g", isFile: false, isDirectory: true, isSymlink: false },
      { name: "link", isFile: false, isDirectory: false, isSymlink: true },
    ],
  );

  assert.equal((await at.client.failure("remove", { path: `${at.name}/d` })).code, "ENOTEMPTY");
  await at.client.ok("remove", { path: `${at.name}/d`, options: { recursive: true } });
  await at.client.ok("remove", { path: `${at.name}/link`, options: null });
  await at.client.ok("remove", { path: `${at.name}/g` });
  assert.deepEqual(await readdir(at.directory), ["file"]);
});

test("renaming moves a link itself, and copying overwrites content and permissions", async () => {
  await writeFile(join(at.directory, "a"), "content");
  await chmod(join(at.directory, "a"), 0o754);
  await symlink("a", join(at.directory, "link"));
  await at.client.ok("rename", { oldPath: `${at.name}/link`, newPath: `${at.name}/moved` });
  assert.equal(await readlink(join(at.directory, "moved")), "a");
  await writeFile(join(at.directory, "b"), "to be overwritten, and longer");
  await at.client.ok("copyFile", { fromPath: `${at.name}/moved`, toPath: `${at.name}/b` });
  assert.equal(await contentOf("b"), "content");
  assert.equal((await stat(join(at.directory, "b"))).mode & 0o7777, 0o754);
});

test("stat has every member, and follows links where lstat does not", async () => {
  await writeFile(join(at.directory, "a"), "12345");
  await symlink("a", join(at.directory, "link"));
  const info = (await at.client.ok("stat", { path: `${at.name}/link` })) as Record<string, unknown>;
  const expected = await stat(join(at.directory, "a"));
  assert.deepEqual(
    Object.keys(info).sort(),
    [
      ...[
        "atime",
        "birthtime",
        "blksize",
        "blocks",
        "ctime",
        "dev",
        "gid",
        "ino",
        "isBlockDevice",
        "isCharDevice",
        "isDirectory",
      ],
      ...["isFifo", "isFile", "isSocket", "isSymlink", "mode", "mtime", "nlink", "rdev", "size", "uid"],
    ].sort(),
  );
  assert.deepEqual([info.isFile, info.isDirectory, info.isSymlink, info.size], [true, false, false, 5]);
  assert.deepEqual(
    [info.ino, info.mode, info.nlink, info.uid],
    [expected.ino, expected.mode, expected.nlink, expected.uid],
  );
  assert.ok(Math.abs(Date.parse(String(info.mtime)) - expected.mtimeMs) <= 1);
  const link = (await at.client.ok("lstat", { path: `${at.name}/link` })) as Record<string, unknown>;
  assert.deepEqual([link.isFile, link.isSymlink], [false, true]);

  // These record no birth time, or are of other kinds.
  for (const [path, kind] of [
    ["/proc/self/stat", "isFile"],
    ["/dev/null", "isCharDevice"],
    [at.agent.socketPath, "isSocket"],
    ["/", "isDirectory"],
  ]) {
    const other = (await at.client.ok("stat", { path })) as Record<string, unknown>;
    assert.equal(other[kind ?? ""], true, `${path} ${kind}`);
    for (const [key, value] of Object.entries(other))
      assert.ok(value !== null && value !== undefined, `${path} has ${key}`);
    for (const key of ["mtime", "atime", "birthtime", "ctime"]) assert.match(String(other[key]), /^\d{4}-.*Z$/);
  }
});

test("modes, owners and times are set", async () => {
  await writeFile(join(at.directory, "a"), "");
  await at.client.ok("chmod", { path: `${at.name}/a`, mode: 0o640 });
  assert.equal((await stat(join(at.directory, "a"))).mode & 0o7777, 0o640);
  await at.client.ok("chown", { path: `${at.name}/a`, uid: 12, gid: null });
  await at.client.ok("chown", { path: `${at.name}/a`, uid: null, gid: 34 });
  const { uid, gid } = await stat(join(at.directory, "a"));
  assert.deepEqual([uid, gid], [12, 34]);

  await at.client.ok("utime", {
    path: `${at.name}/a`,
    atime: "2001-02-03T04:05:06.789Z",
    mtime: "1999-12-31T23:59:59.250Z",
  });
  assert.equal((await stat(join(at.directory, "a"))).atime.toISOString(), "2001-02-03T04:05:06.789Z");
  assert.equal((await stat(join(at.directory, "a"))).mtime.toISOString(), "1999-12-31T23:59:59.250Z");
  await at.client.ok("utime", { path: `${at.name}/a`, atime: 1000, mtime: 2000.5 });
  assert.equal((await stat(join(at.directory, "a"))).atimeMs, 1_000_000);
  assert.equal((await stat(join(at.directory, "a"))).mtimeMs, 2_000_500);
  const { error } = await at.client.answer(
    at.client.request("utime", { path: `${at.name}/a`, atime: "yesterday", mtime: 1 }),
  );
  assert.equal(error?.code, -32602);
});

test("links are made and read", async () => {
  await writeFile(join(at.directory, "a"), "content");
  await at.client.ok("link", { target: `${at.name}/a`, path: `${at.name}/hard` });
  assert.equal((await stat(join(at.directory, "hard"))).ino, (await stat(join(at.directory, "a"))).ino);
  await at.client.ok("symlink", { target: "../anything/at all", path: `${at.name}/soft`, options: { type: "file" } });
  assert.equal(await readlink(join(at.directory, "soft")), "../anything/at all");
  assert.equal(await at.client.ok("readLink", { path: `${at.name}/soft` }), "../anything/at all");
  await at.client.ok("symlink", { target: "a", path: `${at.name}/good` });
  assert.equal(await at.client.ok("realPath", { path: `${at.name}/./good` }), join(at.directory, "a"));
  assert.equal((await at.client.failure("readLink", { path: `${at.name}/a` })).code, "EINVAL");
  assert.equal((await at.client.failure("realPath", { path: `${at.name}/soft` })).code, "ENOENT");
});

test("truncating empties, cuts and extends", async () => {
  await writeFile(join(at.directory, "a"), "content");
  await at.client.ok("truncate", { name: `${at.name}/a`, length: 4 });
  assert.equal(await contentOf("a"), "cont");
  await at.client.ok("truncate", { name: `${at.name}/a`, length: 6 });
  assert.equal(await contentOf("a"), "cont\0\0");
  await at.client.ok("truncate", { name: `${at.name}/a` });
  assert.equal(await contentOf("a"), "");
});

test("the umask is read, set and applied to new files and to processes", async () => {
  const original = (await at.client.ok("umask", { mask: 0o077 })) as number;
  try {
    assert.equal(await at.client.ok("umask", {}), 0o077);
    assert.equal(await at.client.ok("umask", { mask: null }), 0o077);
    await at.client.ok("writeTextFile", { path: `${at.name}/a`, content: "" });
    assert.equal((await stat(join(at.directory, "a"))).mode & 0o7777, 0o600);
    const { pid } = (await at.client.ok("spawn", {
      command: "touch",
      args: [join(at.directory, "b")],
      stdout: "null",
      stderr: "null",
    })) as { pid: number };
    await at.client.ok("processWait", { pid });
    assert.equal((await stat(join(at.directory, "b"))).mode & 0o7777, 0o600);
  } finally {
    await at.client.ok("umask", { mask: original });
  }
});

test("temporary files and directories have the wanted place and name, and a private mode", async () => {
  const file = String(
    await at.client.ok("makeTempFile", { options: { dir: at.name, prefix: "pre-", suffix: ".txt" } }),
  );
  assert.match(file.slice(at.directory.length), /^\/pre-.+\.txt$/);
  assert.ok((await lstat(file)).isFile());
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  const temporary = [
    String(await at.client.ok("makeTempDir", {})),
    String(await at.client.ok("makeTempDir", { options: null })),
  ];
  try {
    for (const path of temporary) {
      assert.match(path, /^\/tmp\/[^/]+$/);
      assert.ok((await lstat(path)).isDirectory());
      assert.equal((await stat(path)).mode & 0o777, 0o700);
    }
    assert.notEqual(temporary[0], temporary[1]);
  } finally {
    for (const path of temporary) await rm(path, { recursive: true });
  }
});

test("the kernel's refusals have the class, the code and the text that clients expect", async () => {
  await writeFile(join(at.directory, "file"), "");
  await symlink("loop", join(at.directory, "loop"));
  const cases: readonly (readonly [method: string, path: string, constructorName: string, code: string])[] = [
    ["readFile", `${at.name}/missing`, "NotFound", "ENOENT"],
    ["readFile", "", "NotFound", "ENOENT"],
    ["readTextFile", at.name, "IsADirectory", "EISDIR"],
    ["readFile", at.name, "IsADirectory", "EISDIR"],
    ["readFile", `${at.name}/file/below`, "NotADirectory", "ENOTDIR"],
    ["readDir", `${at.name}/file`, "NotADirectory", "ENOTDIR"],
    ["stat", `${at.name}/loop`, "FilesystemLoop", "ELOOP"],
    ["stat", `${at.name}/${"x".repeat(300)}`, "Error", "ENAMETOOLONG"],
    ["remove", `${at.name}/missing`, "NotFound", "ENOENT"],
    ["readFile", `${at.name}/nul\0`, "InvalidData", "EINVAL"],
  ];
  for (const [method, path, constructorName, code] of cases) {
    const error = await at.client.failure(method, { path });
    assert.deepEqual(
      [error.constructorName, error.code],
      [constructorName, code],
      `${method} ${path}: ${error.message}`,
    );
  }
  const { message, stack } = await at.client.failure("readFile", { path: `${at.name}/missing` });
  assert.match(message, /^No such file or directory \(os error 2\): /);
  assert.equal(stack, `NotFound: ${message}\n    at <sandbox>:1:1`);
});

test("many calls run side by side", async () => {
  const numbers = Array.from({ length: 200 }, (_, index) => index);
  await Promise.all(
    numbers.map((n) => at.client.ok("writeTextFile", { path: `${at.name}/${n}`, content: `number ${n}` })),
  );
  const texts = await Promise.all(numbers.map((n) => at.client.ok("readTextFile", { path: `${at.name}/${n}` })));
  assert.deepEqual(
    texts,
    numbers.map((n) => `number ${n}`),
  );
});

async function contentOf(file: string): Promise<string | undefined> {
  return await readFile(join(at.directory, file), "utf8").catch(() => undefined);
}
