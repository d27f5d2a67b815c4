import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, open, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { KernelError } from "../calls/kernel-error.ts";
import { bindMount, createFileSystemMount, mountFileSystem, moveMount, setMountAttributes, unmount } from "./mount.ts";
import { findMount } from "./mount-info.ts";

describe("mounts", () => {
  let directory = "";

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson mount-"));
    for (const name of ["source", "target", "lower", "upper", "work"]) await mkdir(join(directory, name));
    await writeFile(join(directory, "source", "file"), "contents");
    await writeFile(join(directory, "lower", "below"), "from below");
  });

  after(async () => {
    assert.equal(await findMount(join(directory, "target")), null);
    await rm(directory, { recursive: true });
  });

  const target = (): string => join(directory, "target");

  test("an error names the call, the errno of the call itself, and what it was about", async () => {
    const missing = join(directory, "missing");
    // Several at once, with different outcomes, show that errno is not mixed up between threads.
    const attempts = Array.from({ length: 24 }, (_, index) =>
      index % 2 === 0
        ? mountFileSystem({ type: "tmpfs", source: "none", target: missing })
        : mountFileSystem({ type: "nosuchtype", source: "none", target: target() }),
    );
    const codes = (await Promise.allSettled(attempts)).map((attempt) => {
      assert.equal(attempt.status, "rejected");
      assert.ok(attempt.reason instanceof KernelError);
      assert.equal(attempt.reason.syscall, "mount");
      return attempt.reason.code;
    });
    assert.deepEqual(
      codes,
      Array.from({ length: 24 }, (_, index) => (index % 2 === 0 ? "ENOENT" : "ENODEV")),
    );
    await assert.rejects(mountFileSystem({ type: "tmpfs", source: "none", target: missing }), {
      message: `mount none on ${missing} as tmpfs (): ENOENT, no such file or directory`,
      errno: 2,
    });
  });

  test("what is in use is not unmounted, or after a while", async () => {
    await mountFileSystem({ type: "tmpfs", source: "none", target: target() });
    const file = await open(join(target(), "file"), "w");
    await assert.rejects(unmount(target()), { code: "EBUSY" });
    await assert.rejects(unmount(target(), { timeoutMs: 50 }), { code: "EBUSY" });
    const unmounted = unmount(target(), { timeoutMs: 600_000 });
    await file.close();
    await unmounted;
    assert.equal(await findMount(target()), null);
  });

  test("a mount is found by its target, with blanks in the path, and unmounting twice is success", async () => {
    await mountFileSystem({ type: "tmpfs", source: "scratch", target: target(), options: "size=1M" }, { noDev: true });
    const mount = await findMount(target());
    assert.equal(mount?.type, "tmpfs");
    assert.equal(mount.source, "scratch");
    assert.ok(mount.options.includes("nodev"));
    assert.ok(!mount.options.includes("nosuid"));
    await unmount(target());
    await unmount(target());
    assert.equal(await findMount(target()), null);
  });

  test("a bind mount is read-only from the first instant and can be made writable again", async () => {
    await bindMount(join(directory, "source"), target(), { isReadOnly: true, noSuid: true, noAtime: true });
    assert.equal(await readFile(join(target(), "file"), "utf8"), "contents");
    await assert.rejects(writeFile(join(target(), "new"), ""), { code: "EROFS" });
    const options = (await findMount(target()))?.options ?? [];
    assert.ok(options.includes("nosuid") && options.includes("noatime"));
    await setMountAttributes(target(), { isReadOnly: false, noAtime: false });
    await writeFile(join(target(), "file"), "changed");
    assert.equal(await readFile(join(directory, "source", "file"), "utf8"), "changed");
    assert.ok((await findMount(target()))?.options.includes("relatime"));
    await unmount(target());
  });

  test("an idmapped bind mount shows owners through the mapping of a user namespace", async () => {
    const holder = spawn("unshare", ["--user", "sleep", "infinity"], { stdio: "ignore" });
    try {
      await once(holder, "spawn");
      const maps = ["uid_map", "gid_map"].map((name) => `/proc/${holder.pid}/${name}`);
      const ownNamespace = await readNamespace("self");
      while ((await readNamespace(String(holder.pid))) === ownNamespace) await new Promise(setImmediate);
      for (const map of maps) await writeFile(map, "0 700000 65536\n");
      await using namespace = await open(`/proc/${holder.pid}/ns/user`);
      await bindMount(join(directory, "source"), target(), { idmap: namespace });
      const { uid, gid } = await stat(join(target(), "file"));
      assert.deepEqual({ uid, gid }, { uid: 700000, gid: 700000 });
      await unmount(target());
    } finally {
      holder.kill("SIGKILL");
      await once(holder, "exit");
    }
  });

  test("an overlay made through the new interface takes each option by itself", async () => {
    await using overlay = await createFileSystemMount(
      {
        type: "overlay",
        source: "overlay",
        options: {
          lowerdir: join(directory, "lower"),
          upperdir: join(directory, "upper"),
          workdir: join(directory, "work"),
          volatile: true,
        },
      },
      { noDev: true },
    );
    await moveMount(overlay, target());
    assert.equal(await readFile(join(target(), "below"), "utf8"), "from below");
    await writeFile(join(target(), "above"), "x");
    assert.equal(await readFile(join(directory, "upper", "above"), "utf8"), "x");
    // Newer kernels show the option as "fsync=volatile".
    assert.match((await findMount(target()))?.superOptions.join(" ") ?? "", /\bvolatile\b/);
    await overlay.close();
    await unmount(target());
  });
});

async function readNamespace(pid: string): Promise<string> {
  await using handle = await open(`/proc/${pid}/ns/user`);
  return String((await handle.stat()).ino);
}
