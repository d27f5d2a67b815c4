import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, open, readFile, rm, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { findMount, runTool, syncFileSystem } from "@caisson/linux";
import { testTimeoutMs } from "@caisson/linux/testing";
import { MIB } from "../testing/device-io.ts";
import { TestDisk } from "../testing/local-test-pool.ts";
import {
  formatFileSystem,
  growFileSystem,
  mountVolume,
  recoverFileSystem,
  trimVolume,
  unmountVolume,
} from "./file-system.ts";
import { FrozenFileSystem } from "./frozen-file-system.ts";
import { LocalStorage } from "./local/local-storage.ts";
import { withNewIdentity } from "./new-identity.ts";
import { ScratchDisks } from "./scratch-disks.ts";
import { readSuperblock, requireSuperblock } from "./superblock.ts";

describe("file systems on images", () => {
  let disk: TestDisk;
  let storage: LocalStorage;
  let target = "";

  before(async () => {
    disk = await TestDisk.create("ext4", 2048 * MIB);
    storage = await LocalStorage.open({ directory: join(disk.mountPath, "pool"), reserveBytes: 64 * MIB });
    target = join(disk.directory, "volume");
    await mkdir(target);
  });

  after(async () => {
    await storage.close();
    await disk.dispose();
  });

  afterEach(async () => {
    assert.equal(await findMount(target), null);
    for await (const { id } of storage.listImages()) await storage.deleteImage(id);
  });

  const measure = async () => {
    const usage = await storage.usage("vol_a");
    assert.ok(usage);
    return usage;
  };

  /** Makes a formatted volume and runs something on its device. */
  const withVolume = async (sizeBytes: number, run: (device: string) => Promise<void>): Promise<void> => {
    await storage.createImage("vol_a", { sizeBytes });
    await withDevice("vol_a", "rw", async (device) => {
      await formatFileSystem(device, "data");
      await run(device);
    });
  };
  const withDevice = async (id: string, mode: "rw" | "ro", run: (device: string) => Promise<void>): Promise<void> => {
    const device = await storage.attach(id, mode);
    try {
      await run(device.path);
    } finally {
      await storage.detach(device);
    }
  };
  const mounted = async (device: string, run: () => Promise<void>, isReadOnly = false): Promise<void> => {
    await mountVolume({ device, target, kind: "data", isReadOnly });
    try {
      await run();
    } finally {
      await unmountVolume(target);
    }
  };

  test("a file system that found an error is repaired where that loses nothing, and else refused as damaged", async () => {
    await withVolume(300 * MIB, async (device) => {
      await mounted(device, async () => {
        await writeFile(join(target, "file"), "kept", { flush: true });
      });
      await runTool("debugfs", ["-w", "-R", "ssv state 2", device]);
      await recoverFileSystem(device);
      assert.equal((await requireSuperblock(device)).hasErrors, false);
      await mounted(device, async () => assert.equal(await readFile(join(target, "file"), "utf8"), "kept"));
      // The root directory is overwritten with zeroes: a repair would put its files elsewhere.
      const block = Number((await runTool("debugfs", ["-R", "blocks <2>", device])).trim());
      await runTool("dd", [
        "if=/dev/zero",
        `of=${device}`,
        "bs=4096",
        "count=1",
        `seek=${block}`,
        "conv=notrunc,fsync",
      ]);
      await runTool("debugfs", ["-w", "-R", "ssv state 2", device]);
      await assert.rejects(recoverFileSystem(device), {
        code: "VOLUME_DAMAGED",
        message: /last snapshot, or run e2fsck/,
      });
    });
  });

  test("a fresh volume is writable, takes under 20 MiB of space, and passes a full check", async () => {
    await storage.createImage("vol_a", { sizeBytes: 1e9 });
    await withDevice("vol_a", "rw", async (device) => {
      assert.equal(await readSuperblock(device), null);
      await formatFileSystem(device, "data");
      assert.equal((await requireSuperblock(device)).sizeBytes <= 1e9, true);
      await runTool("e2fsck", ["-fn", device]);
      await mounted(device, async () => {
        const options = (await findMount(target))?.options ?? [];
        for (const option of ["nodev", "nosuid", "noatime"]) assert.ok(options.includes(option), option);
        await writeFile(join(target, "file"), "contents");
        const { blocks, bavail, bfree } = await statfs(target);
        // ext4 keeps 4096 blocks for its own delayed allocation.
        assert.ok(bfree - bavail <= 4096, "nothing is kept back for the superuser");
        assert.ok(blocks * 4096 > 0.97 * 1e9 - 16 * MIB, `${blocks * 4096} bytes are the volume's`);
      });
    });
    const { allocatedBytes } = await measure();
    assert.ok(allocatedBytes > 0 && allocatedBytes < 20 * MIB, `${allocatedBytes} bytes`);
  });

  test("the features are those that are named, whatever the tool of this Debian adds", async () => {
    const common = [
      ...["64bit", "dir_index", "dir_nlink", "ext_attr", "extent", "extra_isize", "filetype", "flex_bg", "huge_file"],
      ...["large_file", "metadata_csum", "resize_inode", "sparse_super"],
    ];
    await storage.createImage("vol_a", { sizeBytes: 400 * MIB });
    await withDevice("vol_a", "rw", async (device) => {
      for (const [kind, more] of [
        ["data", ["has_journal", "metadata_csum_seed"]],
        ["root", ["has_journal", "metadata_csum_seed"]],
        ["scratch", []],
      ] as const) {
        await formatFileSystem(device, kind);
        const features = /^Filesystem features: +(.*)$/m.exec(await runTool("dumpe2fs", ["-h", device]))?.[1];
        assert.deepEqual(features?.split(" ").sort(), [...common, ...more].sort(), kind);
      }
    });
  });

  test("device nodes cannot be opened, whatever is mounted", async () => {
    await withVolume(256 * MIB, async (device) => {
      for (const kind of ["root", "data", "scratch"] as const) {
        await mountVolume({ device, target, kind, isReadOnly: false });
        try {
          const node = join(target, `${kind}-null`);
          await runTool("mknod", [node, "c", "1", "3"]);
          await assert.rejects(readFile(node), { code: "EACCES" });
        } finally {
          await unmountVolume(target);
        }
      }
    });
  });

  test("volumes of the smallest and of odd sizes can be made and checked", async () => {
    for (const sizeBytes of [300_000_000, 300_000_001, 512 * MIB - 1]) {
      await withVolume(sizeBytes, async (device) => {
        const { sizeBytes: size, blockBytes } = await requireSuperblock(device);
        assert.equal(blockBytes, 4096);
        assert.equal(size, Math.floor(sizeBytes / 4096) * 4096);
        await runTool("e2fsck", ["-fn", device]);
      });
      await storage.deleteImage("vol_a");
    }
  });

  test("volumes of one template have identities of their own, also in the copies of the superblock, and pass a full check", async () => {
    const identityOf = async (device: string, ...from: readonly string[]) => {
      const text = await runTool("dumpe2fs", ["-h", ...from, device]);
      return ["Filesystem UUID", "Directory Hash Seed", "Checksum seed"].map(
        (name) => new RegExp(`^${name}:\\s+(\\S+)$`, "m").exec(text)?.[1],
      );
    };
    for (const sizeBytes of [300_000_001, 4e9]) {
      await withVolume(sizeBytes, async () => {});
      const content = await storage.readPieces("vol_a");
      const identities: (string | undefined)[][] = [];
      for (const id of ["vol_b", "vol_c"]) {
        await storage.createImage(id, { sizeBytes, pieces: withNewIdentity(content) });
        await withDevice(id, "rw", async (device) => {
          await runTool("e2fsck", ["-fn", device]);
          const identity = await identityOf(device);
          for (const block of sizeBytes > 1e9 ? [32_768, 229_376, 884_736] : [32_768])
            assert.deepEqual(await identityOf(device, "-o", `superblock=${block}`), identity);
          identities.push(identity);
          await mounted(device, async () => {
            for (let index = 0; index < 1_000; index += 1) await writeFile(join(target, `file-${index}`), "kept");
          });
          await runTool("e2fsck", ["-fn", device]);
          await growFileSystem(device);
          await mounted(device, async () => assert.equal(await readFile(join(target, "file-999"), "utf8"), "kept"));
        });
      }
      const [first, second] = identities;
      assert.ok(first !== undefined && second !== undefined);
      assert.ok(first.every((value) => value !== undefined));
      assert.notEqual(first[0], second[0]);
      assert.notEqual(first[1], second[1]);
      for (const id of ["vol_a", "vol_b", "vol_c"]) await storage.deleteImage(id);
    }
  });

  test("a clone larger than its parent grows to its size and keeps its files", async () => {
    await withVolume(400 * MIB, (device) => mounted(device, () => writeFile(join(target, "file"), "kept")));
    await storage.sealImage("vol_a", "snp_a");
    await storage.createImage("vol_b", { sizeBytes: 4096 * MIB, parent: "snp_a" });
    await withDevice("vol_b", "rw", async (device) => {
      await growFileSystem(device);
      assert.equal((await requireSuperblock(device)).sizeBytes, 4096 * MIB);
      await runTool("e2fsck", ["-fn", device]);
      await mounted(device, async () => assert.equal(await readFile(join(target, "file"), "utf8"), "kept"));
      await growFileSystem(device);
    });
  });

  test("a snapshot of a volume that is being written to needs no repair and holds what was synced before", async () => {
    await withVolume(1e9, async (device) => {
      await mounted(device, async () => {
        await using writer = await startWriter(target);
        await writer.progress(20);
        await writeFile(join(target, "before"), "the snapshot", { flush: true });
        const live = { mountPath: target, freezeDeadlineMs: testTimeoutMs(10_000) };
        const { frozenMs } = await storage.sealImage("vol_a", "snp_a", { live });
        assert.ok(frozenMs > 0);
        await writer.progress(20);
      });
    });
    await withDevice("snp_a", "ro", async (device) => {
      assert.equal((await requireSuperblock(device)).needsRecovery, false);
      await runTool("e2fsck", ["-fn", device]);
      await mounted(
        device,
        async () => assert.equal(await readFile(join(target, "before"), "utf8"), "the snapshot"),
        true,
      );
    });
  });

  test("a freeze ends at its deadline, whatever its owner does, and says so", async () => {
    await withVolume(400 * MIB, (device) =>
      mounted(device, async () => {
        await using frozen = await FrozenFileSystem.freeze(target, { deadlineMs: 1500 });
        await writeFile(join(target, "file"), "waits");
        // Until the thaw this is how long it stands still already, so a write that did not wait would find less.
        assert.ok(frozen.stalledMs >= 1500, `${frozen.stalledMs} ms`);
        assert.equal(frozen.isExpired, true);
        assert.throws(() => frozen.thaw(), /stood still for 1500 ms/);
      }),
    );
  });

  test("a freeze ends when its owner fails, and a second one meanwhile is refused", async () => {
    await withVolume(400 * MIB, (device) =>
      mounted(device, async () => {
        const owner = async (): Promise<void> => {
          await using _frozen = await FrozenFileSystem.freeze(target, { deadlineMs: testTimeoutMs(60_000) });
          await assert.rejects(FrozenFileSystem.freeze(target, { deadlineMs: testTimeoutMs(60_000) }), {
            code: "EBUSY",
          });
          throw new Error("the owner failed");
        };
        await assert.rejects(owner(), /the owner failed/);
        await writeFile(join(target, "file"), "written", { flush: true });
      }),
    );
  });

  test("after deleting files, trimming gives their space back to the pool", async () => {
    await withVolume(400 * MIB, (device) =>
      mounted(device, async () => {
        await writeFile(join(target, "large"), Buffer.alloc(64 * MIB, 1), { flush: true });
        const full = (await measure()).allocatedBytes;
        assert.ok(full >= 64 * MIB);
        await rm(join(target, "large"));
        await using directory = await open(target, "r");
        await syncFileSystem(directory, target);
        assert.ok((await trimVolume(target)) >= 64 * MIB);
        const { allocatedBytes } = await measure();
        assert.ok(allocatedBytes <= full - 64 * MIB, `${full} bytes before, ${allocatedBytes} after`);
      }),
    );
  });

  test("an image whose user died is recovered before it is used read-only", async () => {
    await withVolume(400 * MIB, (device) =>
      mounted(device, async () => {
        await writeFile(join(target, "file"), "journaled", { flush: true });
        // The copy of a file system in use, without a freeze, is what a power cut leaves.
        await storage.sealImage("vol_a", "snp_a");
      }),
    );
    await storage.createImage("vol_b", { sizeBytes: 400 * MIB, parent: "snp_a" });
    await withDevice("vol_b", "rw", async (device) => {
      assert.equal((await requireSuperblock(device)).needsRecovery, true);
      await recoverFileSystem(device);
      assert.equal((await requireSuperblock(device)).needsRecovery, false);
      await runTool("e2fsck", ["-fn", device]);
    });
    await withDevice("vol_b", "ro", (device) =>
      mounted(device, async () => assert.equal(await readFile(join(target, "file"), "utf8"), "journaled"), true),
    );
  });

  test("a scratch disk is empty, large, and gone without a trace after its end", async () => {
    const mountRoot = join(disk.directory, "scratch");
    const disks = new ScratchDisks(storage, { mountRoot, sizeBytes: 10_240 * MIB });
    const [first, second] = await Promise.all([disks.create("scr_a"), disks.create("scr_b")]);
    await writeFile(join(first.path, "file"), Buffer.alloc(8 * MIB, 1));
    await assert.rejects(readFile(join(second.path, "file")), { code: "ENOENT" });
    const { blocks, bavail } = await statfs(second.path);
    assert.ok(bavail > 0.98 * blocks && blocks * 4096 > 9.5 * 2 ** 30);
    await disks.destroy("scr_a");
    await disks.destroy("scr_a");
    assert.equal(await findMount(first.path), null);
    await writeFile(join(second.path, "file"), "the other one works on");
    await disks.destroy("scr_b");
    assert.equal(await storage.getImage("scr_a"), null);
  });
});

/** A guest that never stops writing, in a process of its own, because a frozen file system would stop this one's worker threads. */
async function startWriter(directory: string): Promise<Writer & AsyncDisposable> {
  const script = 'i=0; while :; do i=$((i+1)); echo $i > "$0/writing-$((i%7))"; echo $i; done';
  const child = spawn("sh", ["-c", script, directory], { stdio: ["ignore", "pipe", "inherit"] });
  let count = 0;
  child.stdout.on("data", (lines: Buffer) => {
    count += lines.toString().split("\n").length - 1;
  });
  await once(child, "spawn");
  return {
    async count() {
      // What the writer has printed already is read first.
      await delay(20);
      return count;
    },
    async progress(writes) {
      const goal = count + writes;
      const deadline = performance.now() + testTimeoutMs(10_000);
      while (count < goal) {
        assert.ok(performance.now() < deadline, "the writer stands still");
        await delay(5);
      }
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await once(child, "close");
    },
  };
}

interface Writer {
  /** Writes so far. */
  count(): Promise<number>;
  /** Resolves after so many more writes. */
  progress(writes: number): Promise<void>;
}
