import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeSync } from "node:fs";
import { mkdir, mkdtemp, open, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { assertNoLeaks, findLeaks } from "../../testing/leak-check.ts";
import { cloneFile, openFile } from "../calls/files.ts";
import { KernelError } from "../calls/kernel-error.ts";
import { openUntimed } from "../calls/untimed-file.ts";
import { freeze, shutDown, thaw, trim } from "../mounts/freeze.ts";
import { mountFileSystem, unmount } from "../mounts/mount.ts";
import { findMount } from "../mounts/mount-info.ts";
import { runTool } from "../processes/run-tool.ts";
import { extents, readMappedBytes } from "./extent-map.ts";
import { LoopDevice, listLoopDevices, readLoopStatus } from "./loop-device.ts";
import { hasReverseMap, holdsReverseMap } from "./xfs-features.ts";

const MIB = 2 ** 20;

describe("loop devices", () => {
  let directory = "";
  const image = (): string => join(directory, "image");

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-loop-"));
  });

  afterEach(() => rm(image(), { force: true }));

  after(async () => {
    await rm(directory, { recursive: true });
    await assertNoLeaks({ directory });
  });

  const attach = async (sizeBytes: number, options = {}): Promise<LoopDevice> => {
    await writeFile(image(), "");
    await truncate(image(), sizeBytes);
    await using file = await openFile(image(), "r+");
    return await LoopDevice.attach(file, options);
  };

  test("a device shows its file's contents, says what is behind it, and is free after detaching", async () => {
    const device = await attach(8 * MIB, { isDirect: true, name: "a name" });
    await using file = await openFile(image(), "r");
    const { dev, ino } = await file.stat();
    assert.deepEqual(await readLoopStatus(device.path), {
      path: device.path,
      dev,
      ino,
      name: "a name",
      isReadOnly: false,
      isDirect: true,
      isAutoclear: true,
    });
    assert.equal(await device.sizeBytes(), 8 * MIB);
    await using node = await open(device.path, "r+");
    await node.write("written through the device", 4096);
    await node.close();
    await device.detach();
    const { buffer } = await file.read(Buffer.alloc(26), 0, 26, 4096);
    assert.equal(buffer.toString(), "written through the device");
    assert.equal(await readLoopStatus(device.path), null);
    await device.detach();
  });

  test("a read-only device refuses to be written to", async () => {
    const device = await attach(MIB, { isReadOnly: true });
    await assert.rejects(
      async () => {
        await using node = await open(device.path, "r+");
        await node.write("x");
      },
      { code: /^(EACCES|EPERM)$/ },
    );
    await device.detach();
  });

  test("a device learns that its file has grown", async () => {
    const device = await attach(MIB);
    await truncate(image(), 3 * MIB);
    assert.equal(await device.sizeBytes(), MIB);
    await device.updateCapacity();
    assert.equal(await device.sizeBytes(), 3 * MIB);
    await device.detach();
  });

  test("detaching a device in use is EBUSY, and works when the user is gone", async () => {
    const device = await attach(MIB);
    await using user = await open(device.path, "r");
    await assert.rejects(device.detach({ timeoutMs: 50 }), { code: "EBUSY", message: /still in use/ });
    await user.close();
    await device.detach();
    assert.equal(await readLoopStatus(device.path), null);
  });

  test("many devices are attached at once although all ask for the same free number first", async () => {
    const devices = await Promise.all(
      Array.from({ length: 16 }, async (_, index) => {
        const path = join(directory, `image-${index}`);
        await writeFile(path, Buffer.alloc(4096, index));
        await using file = await openFile(path, "r+");
        return await LoopDevice.attach(file);
      }),
    );
    assert.equal(new Set(devices.map(({ path }) => path)).size, 16);
    const paths = (await listLoopDevices()).map(({ path }) => path);
    for (const { path } of devices) assert.ok(paths.includes(path));
    await Promise.all(devices.map((device) => device.detach()));
  });

  test("a device whose file belongs to a program that is gone keeps nobody from listing the others", async () => {
    await writeFile(image(), "");
    await truncate(image(), MIB);
    const served = join(directory, "served");
    await writeFile(served, "");
    const program = spawn("qemu-storage-daemon", [
      ...["--blockdev", `driver=file,filename=${image()},node-name=image`],
      ...["--export", `type=fuse,id=export,node-name=image,mountpoint=${served},writable=on`],
    ]);
    const ended = once(program, "exit");
    try {
      while ((await findMount(served))?.target !== served) await Promise.race([delay(10), ended]);
      const file = await openFile(served, "r+");
      const device = await LoopDevice.attach(file);
      await file.close();
      program.kill("SIGKILL");
      await ended;
      // The kernel remembers for a moment what the file was like.
      while ((await readLoopStatus(device.path)) !== null) await delay(50);
      const devices = await listLoopDevices();
      const leaks = await findLeaks({ directory });
      await device.detach({ isDiscarded: true });
      assert.ok(devices.every(({ path }) => path !== device.path));
      assert.ok(leaks.includes(`loop device: ${device.path} over ${served}`), leaks.join("\n"));
    } finally {
      program.kill("SIGKILL");
      await ended;
      await unmount(served);
      await rm(served);
    }
  });

  test("the leak check finds a device, a mount, an open file and the directory, and nothing of others", async () => {
    const device = await attach(64 * MIB);
    const target = join(directory, "mounted");
    await mkdir(target);
    await runTool("mkfs.ext4", ["-q", device.path]);
    await mountFileSystem({ type: "ext4", source: device.path, target });
    await using file = await open(join(target, "file"), "w");
    const leaks = (await findLeaks({ directory })).map((leak) => leak.replace(/ .*/, "")).toSorted();
    assert.deepEqual(new Set(leaks), new Set(["file:", "loop", "mount:", "process"]));
    assert.deepEqual(await findLeaks({ directory: `${directory}-other`, instance: "caisson-no-such-instance" }), []);
    await assert.rejects(assertNoLeaks({ directory }, 0), /left behind/);
    await file.close();
    await unmount(target);
    await device.detach();
  });

  test("extents tell shared, exclusive and punched-out blocks, and an untimed file keeps its timestamps", async () => {
    const device = await attach(512 * MIB);
    const target = join(directory, "xfs");
    await mkdir(target);
    await runTool("mkfs.xfs", ["-q", "-m", "reflink=1,rmapbt=1", device.path]);
    await mountFileSystem({ type: "xfs", source: device.path, target });
    try {
      const reverseMaps = [await hasReverseMap(target), await holdsReverseMap(device.path)];
      assert.deepEqual(
        [...reverseMaps, await hasReverseMap("/proc"), await holdsReverseMap("/dev/null")],
        [true, true, null, null],
      );
      await using source = await openFile(join(target, "source"), "wx+");
      await source.write(Buffer.alloc(4 * MIB, 1));
      await source.sync();
      assert.deepEqual(await readMappedBytes(source, "source"), {
        mappedBytes: 4 * MIB,
        ownBytes: 4 * MIB,
        exclusiveBytes: 4 * MIB,
      });
      await using clone = await openFile(join(target, "clone"), "wx+");
      await cloneFile(source, clone, "clone");
      await runTool("fallocate", ["--punch-hole", "-o", String(MIB), "-l", String(MIB), join(target, "clone")]);
      await clone.sync();
      assert.deepEqual(await readMappedBytes(source, "source", { base: clone }), {
        mappedBytes: 4 * MIB,
        ownBytes: MIB,
        exclusiveBytes: MIB,
      });
      assert.deepEqual(await readMappedBytes(clone, "clone", { base: source }), {
        mappedBytes: 3 * MIB,
        ownBytes: 0,
        exclusiveBytes: 0,
      });
      const holes: number[] = [];
      let end = 0;
      for await (const { offset, length } of extents(clone, "clone")) {
        if (offset > end) holes.push(end);
        end = offset + length;
      }
      assert.deepEqual(holes, [MIB]);
      await using parent = await openFile(target, "r");
      await using untimed = await openUntimed(parent, source, 2, "source");
      const before = (await source.stat({ bigint: true })).mtimeNs;
      // Longer than the kernel's clock tick, so that a new time would be another one.
      await new Promise((resolve) => setTimeout(resolve, 20));
      writeSync(untimed.fd, "untimed", 0);
      assert.equal((await source.stat({ bigint: true })).mtimeNs, before);
      await source.write("timed", 0);
      assert.notEqual((await source.stat({ bigint: true })).mtimeNs, before);
    } finally {
      await unmount(target);
      await device.detach();
    }
  });

  test("a frozen file system makes writers wait; trimming frees blocks; one that is shut down writes nothing more", async () => {
    const device = await attach(256 * MIB);
    const target = join(directory, "ext4");
    await mkdir(target);
    await runTool("mkfs.ext4", ["-q", device.path]);
    await mountFileSystem({ type: "ext4", source: device.path, target });
    await using mount = await openFile(target, "r");
    try {
      thaw(mount, target);
      await freeze(mount, target);
      await assert.rejects(freeze(mount, target), { code: "EBUSY", syscall: "ioctl FIFREEZE" });
      let isWritten = false;
      const write = writeFile(join(target, "file"), "waits").then(() => {
        isWritten = true;
      });
      await new Promise((resolve) => setTimeout(resolve, 30));
      assert.equal(isWritten, false);
      thaw(mount, target);
      await write;
      assert.ok((await trim(mount, target)) > 100 * MIB);
      await shutDown(mount, target);
      await assert.rejects(writeFile(join(target, "file"), "lost", { flush: true }), { code: "EIO" });
    } finally {
      await mount.close();
      await unmount(target);
      await device.detach();
    }
  });

  test("kernel errors carry the code, the call and what it was about", async () => {
    // On a file system that is XFS nowhere.
    await using file = await openFile("/proc/self/status", "r");
    await assert.rejects(openUntimed(file, file, 0, "another file system's file"), (error) => {
      assert.ok(error instanceof KernelError);
      assert.equal(error.syscall, "ioctl XFS_IOC_FD_TO_HANDLE");
      assert.match(error.message, /another file system's file/);
      return true;
    });
    await assert.rejects(openFile(join(directory, "missing"), "r"), { code: "ENOENT", syscall: "open" });
  });
});
