import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:fs";
import { mkdir, open, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { freeze, runTool } from "@caisson/linux";
import { testTimeoutMs } from "@caisson/linux/testing";
import { MIB } from "../testing/device-io.ts";
import { TestDisk } from "../testing/local-test-pool.ts";
import type { GuardedStorage } from "./disk-guard.ts";
import type { BlockDevice } from "./driver.ts";
import { formatFileSystem, mountVolume, UnwrittenDataError, unmountVolume } from "./file-system.ts";
import { FrozenFileSystem } from "./frozen-file-system.ts";
import { LocalStorage } from "./local/local-storage.ts";
import { SpaceGuard } from "./space-guard.ts";
import { WriteWitness } from "./write-witness.ts";

suite("the guard of a pool's space", { timeout: testTimeoutMs(600_000) }, () => {
  let disk: TestDisk;
  let storage: LocalStorage;
  let guard: SpaceGuard;
  let onHold: () => void;
  let onError: (error: unknown) => void;
  const mounted = new Map<string, { device: BlockDevice; target: string; witness: WriteWitness }>();

  // A disk for each test, because a pool gives back the space of deleted images some time later.
  beforeEach(async () => {
    disk = await TestDisk.create("ext4", 1800 * MIB);
    const directory = join(disk.mountPath, "pool");
    storage = await LocalStorage.open({ directory, poolSizeBytes: 1024 * MIB, reserveBytes: 32 * MIB });
    onHold = () => undefined;
    onError = (error) => assert.fail(String(error));
    guard = makeGuard(storage);
  });
  afterEach(async () => {
    for (const id of [...mounted.keys()]) await unmountImage(id).catch(() => undefined);
    await guard[Symbol.asyncDispose]();
    await storage.close();
    await disk.dispose();
  });

  /** Nobody stands still for so long unless a test makes it so, also on a machine where everything takes long. */
  const makeGuard = (of: GuardedStorage, holdMs = testTimeoutMs(120_000)): SpaceGuard =>
    new SpaceGuard(of, { holdMs, onHold: () => onHold(), onError: (error) => onError(error) });
  /** The pool, as if so many bytes were free in it, with a headroom of 64 MiB. */
  const withFreeBytes = (freeBytes: () => number): GuardedStorage => ({
    placeOf: () => storage.placeOf(),
    spaceNow: (directory, ids) => ({
      ...storage.spaceNow(directory, ids),
      freeBytes: freeBytes(),
      headroomBytes: 64 * MIB,
    }),
  });
  const replaceGuard = async (next: SpaceGuard): Promise<void> => {
    await guard[Symbol.asyncDispose]();
    guard = next;
  };
  /** A volume much larger than the pool. */
  const mountImage = async (id: string, isGuarded = true): Promise<string> => {
    const target = join(disk.directory, id);
    await mkdir(target, { recursive: true });
    if ((await storage.getImage(id)) === null) {
      await storage.createImage(id, { sizeBytes: 3072 * MIB });
      const blank = await storage.attach(id, "rw");
      await formatFileSystem(blank.path, "data");
      await storage.detach(blank);
    }
    const device = await storage.attach(id, "rw");
    await mountVolume({ device: device.path, target, kind: "data", isReadOnly: false });
    mounted.set(id, { device, target, witness: await WriteWitness.open(device.path, target) });
    if (isGuarded) await guard.add({ imageId: id, devicePath: device.path, target, isScratch: false });
    return target;
  };
  const unmountImage = async (id: string): Promise<void> => {
    const mount = mounted.get(id);
    if (mount === undefined) return;
    mounted.delete(id);
    await guard.remove(id);
    try {
      await unmountVolume(mount.target, mount.witness);
    } finally {
      await storage.detach(mount.device).catch(() => storage.detach(mount.device));
    }
  };
  /** Runs dd in a process of its own, which may stand still. Resolves to what it said. */
  const dd = async (target: string, ...args: readonly string[]): Promise<string> => {
    const child = spawn("dd", ["if=/dev/zero", `of=${target}`, "bs=1M", ...args], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const [text] = await Promise.all([child.stderr.setEncoding("utf8").toArray(), once(child, "exit")]);
    return text.join("");
  };
  const eventually = async (what: string, isTrue: () => Promise<boolean>): Promise<void> => {
    const deadline = performance.now() + testTimeoutMs(120_000);
    while (!(await isTrue())) {
      assert.ok(performance.now() < deadline, what);
      await delay(20);
    }
  };
  /**
   * Writes to the file systems at once until the pool is full, and returns how many MiB they took. A look that comes late on a loaded machine
   * may tell a writer too early that there is no room, so they go on until there is none.
   */
  const fill = async (...targets: readonly string[]): Promise<number> => {
    let totalMiB = 0;
    await eventually("the full pool", async () => {
      const write = (target: string) => dd(join(target, "file"), "count=2000", "oflag=append", "conv=notrunc,fsync");
      const said = await Promise.all(targets.map(write));
      for (const text of said) {
        assert.match(text, /No space left on device/);
        totalMiB += writtenMiB(text);
      }
      return (await storage.capacity()).availableBytes < 16 * MIB;
    });
    return totalMiB;
  };
  const check = (id: string): Promise<string> =>
    runTool("e2fsck", ["-fn", join(disk.mountPath, "pool", "mount", "images", id)]);
  const writtenMiB = (said: string): number => Number(/(\d+)\+\d records out/.exec(said)?.[1]);

  test("a writer gets ENOSPC from its write when the pool is full, and everything that was taken is stored", async () => {
    const target = await mountImage("vol_a");
    const said = await dd(join(target, "file"), "count=2000");
    assert.match(said, /No space left on device/);
    const { availableBytes } = await storage.capacity();
    await unmountImage("vol_a");
    // Nearly all of the pool could be used, and the headroom is still there.
    assert.ok(writtenMiB(said) > 500, said);
    const { freeBytes, headroomBytes } = await storage.capacity();
    assert.ok(freeBytes > headroomBytes * 0.75, `${freeBytes} of ${headroomBytes}, ${availableBytes}`);
    await check("vol_a");
  });

  test("without it the same writes are taken and lost, which the witness of the mount sees", async () => {
    const target = await mountImage("vol_a", false);
    assert.equal(writtenMiB(await dd(join(target, "file"), "count=1200")), 1200);
    await assert.rejects(unmountImage("vol_a"), UnwrittenDataError);
  });

  test("two writers share what there is, a third finds nothing, and deleting files makes room for it", async () => {
    const [a, b, c] = await Promise.all(["vol_a", "vol_b", "vol_c"].map((id) => mountImage(id)));
    await fill(String(a), String(b));
    assert.match(await dd(join(String(c), "file"), "count=200"), /No space left/);
    const { bavail, bsize } = await statfs(String(c));
    assert.ok(bavail * bsize < 64 * MIB, "programs inside see that there is no room");
    for (const target of [a, b]) await runTool("rm", [join(String(target), "file")]);
    await eventually("room for the third", async () => {
      const space = await statfs(String(c));
      return space.bavail * space.bsize > 100 * MIB;
    });
    assert.equal(writtenMiB(await dd(join(String(c), "more"), "count=100")), 100);
    for (const id of ["vol_a", "vol_b", "vol_c"]) {
      await unmountImage(id);
      await check(id);
    }
  });

  test("idle file systems are together promised no more than there is", async () => {
    const targets = await Promise.all(["vol_a", "vol_b", "vol_c"].map((id) => mountImage(id)));
    await eventually("shares", async () => {
      const { availableBytes } = await storage.capacity();
      const shares = (await Promise.all(targets.map((target) => statfs(target)))).map(
        ({ bavail, bsize }) => bavail * bsize,
      );
      const sum = shares.reduce((total, bytes) => total + bytes);
      return sum <= availableBytes && shares.every((bytes) => bytes > 100 * MIB);
    });
  });

  test("a file system whose limit cannot be set is told of once, and the others keep theirs", async () => {
    const errors: unknown[] = [];
    onError = (error) => errors.push(error);
    await mountImage("vol_a");
    await using attributes = await ReadOnlyAttributes.make(String(mounted.get("vol_a")?.device.path));
    const b = await mountImage("vol_b");
    assert.ok((await fill(b)) > 300);
    assert.match(String(errors[0]), /EROFS/);
    assert.equal(errors.length, 1, errors.map(String).join("\n"));
    await attributes[Symbol.asyncDispose]();
    await eventually("the limit", async () => {
      const { bavail, bsize } = await statfs(join(disk.directory, "vol_a"));
      return bavail * bsize < 64 * MIB;
    });
    await unmountImage("vol_a");
    await unmountImage("vol_b");
    await check("vol_b");
  });

  test("a disk that hangs delays the limits of no other disk", async () => {
    const onTwoDisks: GuardedStorage = {
      placeOf: (id) => ({ directory: id === "vol_hung" ? "hung" : "sound", problem: null }),
      spaceNow: (directory, ids) => storage.spaceNow(directory, ids),
    };
    await replaceGuard(makeGuard(onTwoDisks));
    await mountImage("vol_hung");
    const sound = await mountImage("vol_a");
    await using hanging = await HangingLimit.make(String(mounted.get("vol_hung")?.device.path), disk.directory);
    assert.ok((await fill(sound)) > 300);
    await hanging[Symbol.asyncDispose]();
    await unmountImage("vol_hung");
    await unmountImage("vol_a");
    await check("vol_a");
  });

  test("writers stand still no longer than promised, also while a look at their disk hangs", async () => {
    let freeBytes = 0;
    await replaceGuard(
      makeGuard(
        withFreeBytes(() => freeBytes),
        testTimeoutMs(3_000),
      ),
    );
    await mountImage("vol_a");
    await eventually("the hold", async () => guard.isHeld("vol_a"));
    await using hanging = await HangingLimit.make(String(mounted.get("vol_a")?.device.path), disk.directory);
    freeBytes = (64 + 100) * MIB;
    let isLooking = true;
    const look = guard.look().finally(() => {
      isLooking = false;
    });
    assert.ok(guard.isHeld("vol_a"), "the look hangs before it lets go");
    await eventually("the end of the hold", async () => !guard.isHeld("vol_a"));
    assert.ok(isLooking);
    await hanging[Symbol.asyncDispose]();
    await look;
    await unmountImage("vol_a");
  });

  test("writers that stood still as long as promised do so again when there was room in between, little or much", async () => {
    let freeBytes = (64 + 100) * MIB;
    await replaceGuard(
      makeGuard(
        withFreeBytes(() => freeBytes),
        100,
      ),
    );
    await mountImage("vol_a");
    let holds = 0;
    onHold = () => {
      holds += 1;
    };
    for (const roomBytes of [(64 + 100) * MIB, 1024 ** 2 * MIB]) {
      const before = holds;
      freeBytes = 0;
      await guard.look();
      assert.equal(holds, before + 1, `before ${roomBytes} bytes of room`);
      await eventually("the end of the hold", async () => !guard.isHeld("vol_a"));
      await guard.look();
      assert.equal(holds, before + 1, "there was no room in between");
      freeBytes = roomBytes;
      await guard.look();
    }
    freeBytes = 0;
    await guard.look();
    assert.equal(holds, 3);
    await unmountImage("vol_a");
  });

  test("what a snapshot has frozen is left to it, and is told of only when it stands still for want of room", async () => {
    await replaceGuard(makeGuard(withFreeBytes(() => 0)));
    let holds = 0;
    onHold = () => {
      holds += 1;
    };
    const target = await mountImage("vol_a", false);
    const devicePath = String(mounted.get("vol_a")?.device.path);
    const snapshot = () => FrozenFileSystem.freeze(target, { deadlineMs: testTimeoutMs(120_000) });
    const isFrozen = async () => {
      await using directory = await open(target, "r");
      await assert.rejects(freeze(directory, target), { code: "EBUSY" });
    };
    {
      await using _frozen = await snapshot();
      await guard.add({ imageId: "vol_a", devicePath, target, isScratch: false });
      for (let count = 0; count < 5; count += 1) await guard.look();
      assert.deepEqual([holds, guard.isHeld("vol_a")], [0, false]);
      await isFrozen();
    }
    await eventually("the hold", async () => guard.isHeld("vol_a"));
    assert.equal(holds, 1);
    guard.letEnd("vol_a");
    {
      await using _frozen = await snapshot();
      await guard.remove("vol_a");
      await isFrozen();
    }
    await unmountImage("vol_a");
  });

  test("blocks that a program reserved count as taken, so that writing there later does not fail", async () => {
    const [a, b] = await Promise.all(["vol_a", "vol_b"].map((id) => mountImage(id)));
    await runTool("fallocate", ["-l", "200M", join(String(a), "reserved")]);
    await guard.look();
    assert.match(await dd(join(String(b), "file"), "count=2000"), /No space left/);
    assert.equal(writtenMiB(await dd(join(String(a), "reserved"), "count=200", "conv=notrunc")), 200);
    await unmountImage("vol_a");
    await unmountImage("vol_b");
    await check("vol_a");
  });

  test("a disk below that others fill makes the pool full, and it has room again when they leave", async () => {
    const target = await mountImage("vol_a");
    await dd(join(target, "kept"), "count=20", "conv=fsync");
    const other = join(disk.mountPath, "other");
    const { bavail, bsize } = await statfs(disk.mountPath);
    // What the pool keeps free of the disk below, its headroom and 100 MiB are left.
    await runTool("fallocate", ["-l", String(bavail * bsize - (32 + 64 + 100) * MIB), other]);
    const { freeBytes, headroomBytes } = storage.spaceNow(storage.placeOf().directory, []);
    assert.ok(freeBytes - headroomBytes < 120 * MIB, "known at once, whatever the pool is busy with");
    await guard.look();
    const said = await dd(join(target, "file"), "count=600", "conv=fsync");
    assert.match(said, /No space left/);
    assert.ok(writtenMiB(said) < 120, said);
    await rm(other);
    await eventually("room", async () => (await storage.capacity()).availableBytes > 400 * MIB);
    await guard.look();
    assert.equal(writtenMiB(await dd(join(target, "file"), "count=120", "conv=fsync")), 120);
    await unmountImage("vol_a");
    await check("vol_a");
  });

  test("overwriting what a snapshot shares stands still when the headroom goes, and goes on when there is room", async () => {
    const target = await mountImage("vol_a");
    const path = join(target, "file");
    assert.equal(writtenMiB(await dd(path, "count=200", "conv=fsync")), 200);
    await storage.sealImage("vol_a", "snp_a");
    const hog = await mountImage("vol_hog");
    await fill(hog);
    let holds = 0;
    const room = Promise.withResolvers<void>();
    onHold = () => {
      holds += 1;
      room.resolve();
    };
    // A look after each piece, so that none comes late however loaded the machine is.
    const overwrite = async () => {
      for (let offsetMiB = 0; offsetMiB < 120; offsetMiB += 10) {
        const said = await dd(path, "count=10", `seek=${offsetMiB}`, "conv=notrunc,fsync", "oflag=sync");
        assert.equal(writtenMiB(said), 10, said);
        await guard.look();
      }
    };
    const overwriting = overwrite();
    await Promise.race([room.promise, overwriting]);
    assert.ok(holds > 0);
    // The hog goes, as a purge would do; ending it lets it go on first.
    guard.letEnd("vol_hog");
    await unmountImage("vol_hog");
    await storage.deleteImage("vol_hog");
    await overwriting;
    await unmountImage("vol_a");
    await check("vol_a");
  });
});

/** Makes the setting of a file system's limit hang until it is disposed of: it waits for somebody who reads from a pipe. */
class HangingLimit implements AsyncDisposable {
  readonly #path: string;
  readonly #pipe: string;
  #isUndone = false;

  private constructor(path: string, pipe: string) {
    this.#path = path;
    this.#pipe = pipe;
  }

  static async make(devicePath: string, directory: string): Promise<HangingLimit> {
    const path = `${devicePath.replace("/dev/", "/sys/fs/ext4/")}/reserved_clusters`;
    const pipe = join(directory, "pipe");
    await runTool("mkfifo", [pipe]);
    await runTool("mount", ["--bind", pipe, path]);
    return new HangingLimit(path, pipe);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isUndone) return;
    this.#isUndone = true;
    await runTool("umount", ["--lazy", this.#path]);
    {
      await using pipe = await open(this.#pipe, constants.O_RDWR | constants.O_NONBLOCK);
      const hasRead = () =>
        pipe.read(Buffer.alloc(64)).then(
          () => true,
          () => false,
        );
      // Where nobody has come to wait, there is nothing to read.
      const deadline = performance.now() + testTimeoutMs(10_000);
      while (!(await hasRead()) && performance.now() < deadline) await delay(20);
    }
    await rm(this.#pipe);
  }
}

/** Makes what the kernel shows of a mounted ext4 file system read-only, as a container's /sys is. */
class ReadOnlyAttributes implements AsyncDisposable {
  readonly #path: string;
  #isUndone = false;

  private constructor(path: string) {
    this.#path = path;
  }

  static async make(devicePath: string): Promise<ReadOnlyAttributes> {
    const path = devicePath.replace("/dev/", "/sys/fs/ext4/");
    await runTool("mount", ["--bind", path, path]);
    await runTool("mount", ["-o", "remount,bind,ro", path]);
    return new ReadOnlyAttributes(path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isUndone) return;
    await runTool("umount", [this.#path]);
    this.#isUndone = true;
  }
}
