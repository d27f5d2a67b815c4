import assert from "node:assert/strict";
import { closeSync, constants, openSync, readlinkSync } from "node:fs";
import { lstat, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { assertNoLeaks } from "../../testing/leak-check.ts";
import { ensureInsideSync, openInsideSync } from "./inside-sync.ts";
import { createFileSystemMount, moveMount, unmount } from "./mount.ts";

suite("paths in a tree that somebody else has filled", () => {
  let directory: string;
  let outside: string;
  let root: number;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-inside-"));
    outside = join(directory, "outside");
    await mkdir(outside);
    await mkdir(join(directory, "root/there/deep"), { recursive: true });
    await writeFile(join(directory, "root/there/file"), "");
    await symlink(outside, join(directory, "root/absolute"));
    await symlink("../outside", join(directory, "root/relative"));
    await symlink("/proc/self/root", join(directory, "root/magic"));
    root = openSync(join(directory, "root"), constants.O_RDONLY | constants.O_DIRECTORY);
  });
  after(async () => {
    closeSync(root);
    await rm(directory, { recursive: true });
    await assertNoLeaks({ directory });
  });

  const pathOf = (descriptor: number): string => {
    const path = readlinkSync(`/proc/self/fd/${descriptor}`);
    closeSync(descriptor);
    return path.slice(join(directory, "root").length);
  };

  test("what is there is opened, and what is missing is made", async () => {
    assert.equal(pathOf(openInsideSync(root, "there/deep")), "/there/deep");
    assert.equal(pathOf(ensureInsideSync(root, "/there/deep", "directory")), "/there/deep");
    assert.equal(pathOf(ensureInsideSync(root, "/new/one/two", "directory")), "/new/one/two");
    assert.equal(pathOf(ensureInsideSync(root, "/etc/hosts", "file")), "/etc/hosts");
    assert.ok((await lstat(join(directory, "root/new/one/two"))).isDirectory());
    assert.ok((await lstat(join(directory, "root/etc/hosts"))).isFile());
  });

  test("no link is followed, wherever on the way it is, and nothing is made behind one", async () => {
    for (const link of ["absolute", "relative", "magic"]) {
      for (const path of [`/${link}`, `/${link}/data`]) {
        assert.throws(() => ensureInsideSync(root, path, "directory"), { code: "ELOOP" }, path);
        assert.throws(() => ensureInsideSync(root, path, "file"), { code: "ELOOP" }, path);
      }
    }
    assert.deepEqual(await readdir(outside), []);
  });

  test("no path leads above the tree", async () => {
    assert.equal(pathOf(openInsideSync(root, "../../there")), "/there");
    assert.equal(pathOf(ensureInsideSync(root, "/../outside/new", "file")), "/outside/new");
    assert.deepEqual(await readdir(outside), []);
  });

  test("no path crosses to another mount", async () => {
    const target = join(directory, "root/there/deep");
    await using tmpfs = await createFileSystemMount({ type: "tmpfs", source: "caisson", options: { size: "4096" } });
    await moveMount(tmpfs, target);
    await tmpfs.close();
    try {
      assert.throws(() => openInsideSync(root, "there/deep"), { code: "EXDEV" });
      assert.throws(() => ensureInsideSync(root, "/there/deep/data", "directory"), { code: "EXDEV" });
    } finally {
      await unmount(target);
    }
  });
});
