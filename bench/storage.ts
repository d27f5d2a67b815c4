import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { keepProcessorsAwake, runTool } from "@caisson/linux";
import {
  formatFileSystem,
  growFileSystem,
  LocalStorage,
  mountVolume,
  ScratchDisks,
  unmountVolume,
} from "@caisson/storage";
import { cloneRepository, makeFileTree, unpackArchive } from "./support/file-trees.ts";
import { median, writeResults } from "./support/report.ts";
import { countSyncedWrites } from "./support/synced-writes.ts";

/**
 * What storage costs, beside the host's own file system in the same run.
 *
 * Run as root under `scripts/isolate.sh`: `scripts/isolate.sh node bench/storage.ts [--directory DIR] [--name NAME] [--quick]`.
 * The pool is made in a new directory below DIR (default: the temporary directory) and removed at the end. Host and volume take turns,
 * so that noise of the machine meets both. Figures go to bench/results/NAME.json.
 */
const { values: flags } = parseArgs({
  options: {
    directory: { type: "string", default: tmpdir() },
    name: { type: "string", default: "storage" },
    quick: { type: "boolean", default: false },
  },
});

const GB = 1e9;
const MIB = 2 ** 20;
const ROUNDS = flags.quick ? 5 : 25;
const TURNS = flags.quick ? 1 : 9;
/** So that what keeps processors awake during a turn on the volume has ended before the next on the host. */
const PAUSE_MS = 300;
const LARGE_MIB = flags.quick ? 256 : 1024;

interface Timing {
  readonly name: string;
  readonly medianMs: number;
  readonly budgetMs?: number;
}

interface Comparison {
  readonly name: string;
  readonly unit: string;
  readonly host: number;
  /** With its processors kept awake, as the volume's are while it is written with many syncs. */
  readonly hostAwake: number;
  readonly volume: number;
  readonly ratio: number;
  readonly ratioAwake: number;
  readonly goal: number;
}

const directory = await mkdtemp(join(flags.directory, "caisson-bench-"));
const storage = await LocalStorage.open({ directory: join(directory, "pool") });
try {
  const timings = [...(await timeImages()), ...(await timeScratch()), ...(await timeLiveSnapshot())];
  const comparisons = await compareWithHost();
  for (const { name, medianMs, budgetMs } of timings) {
    console.log(
      `${name.padEnd(58)} ${medianMs.toFixed(1).padStart(8)} ms${budgetMs === undefined ? "" : `   budget ${budgetMs} ms`}`,
    );
  }
  for (const { name, unit, host, hostAwake, volume, ratio, ratioAwake, goal } of comparisons) {
    const figures = `volume ${volume.toFixed(0)}, host ${host.toFixed(0)}, awake ${hostAwake.toFixed(0)} ${unit}`;
    console.log(
      `${name.padEnd(62)} ${ratio.toFixed(2)} ×, of a host kept awake ${ratioAwake.toFixed(2)} ×   goal ${goal} ×   (${figures})`,
    );
  }
  await writeResults(flags.name, { timings, comparisons });
} finally {
  await storage.close();
  await rm(directory, { recursive: true });
}

async function timeImages(): Promise<readonly Timing[]> {
  const target = join(directory, "volume");
  await mkdir(target);
  const steps = new Map<string, number[]>();
  const timed = async <T>(name: string, run: () => Promise<T>): Promise<T> => {
    const start = performance.now();
    const result = await run();
    steps.set(name, [...(steps.get(name) ?? []), performance.now() - start]);
    return result;
  };
  for (let round = 0; round < ROUNDS; round += 1) {
    await timed("volume create, blank, 1 GB (image, attach, format, detach)", async () => {
      await storage.createImage("vol_a", { sizeBytes: GB });
      const device = await storage.attach("vol_a", "rw");
      await formatFileSystem(device.path, "data");
      await storage.detach(device);
    });
    const device = await timed("attach read-write", () => storage.attach("vol_a", "rw"));
    await timed("mount", () => mountVolume({ device: device.path, target, kind: "data", isReadOnly: false }));
    await writeFile(join(target, "file"), Buffer.alloc(64 * MIB, 1), { flush: true });
    await timed("unmount", () => unmountVolume(target));
    await timed("detach", () => storage.detach(device));
    await timed("seal, detached", () => storage.sealImage("vol_a", "snp_a"));
    await timed("volume create from a snapshot, same size", () =>
      storage.createImage("vol_b", { sizeBytes: GB, parent: "snp_a" }),
    );
    await timed("volume create from a snapshot, grown from 1 GB to 10 GB", async () => {
      await storage.createImage("vol_c", { sizeBytes: 10 * GB, parent: "snp_a" });
      const grown = await storage.attach("vol_c", "rw");
      await growFileSystem(grown.path);
      await storage.detach(grown);
    });
    await timed("delete", () => storage.deleteImage("vol_b"));
    for (const id of ["vol_a", "vol_c", "snp_a"]) await storage.deleteImage(id);
  }
  const budgets: Readonly<Record<string, number>> = {
    "volume create, blank, 1 GB (image, attach, format, detach)": 20,
    "volume create from a snapshot, same size": 20,
    "volume create from a snapshot, grown from 1 GB to 10 GB": 40,
  };
  return [...steps].map(([name, durations]) => {
    const budgetMs = budgets[name];
    return { name, medianMs: median(durations), ...(budgetMs === undefined ? {} : { budgetMs }) };
  });
}

async function timeScratch(): Promise<readonly Timing[]> {
  const disks = new ScratchDisks(storage, { mountRoot: join(directory, "scratch"), sizeBytes: 10 * 2 ** 30 });
  await disks.prepare();
  const [created, destroyed]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = performance.now();
    const disk = await disks.create("scr_a");
    created.push(performance.now() - start);
    await writeFile(join(disk.path, "file"), Buffer.alloc(16 * MIB, 1));
    const end = performance.now();
    await disks.destroy("scr_a");
    destroyed.push(performance.now() - end);
  }
  return [
    { name: "scratch disk create (clone, attach, mount), 10 GiB", medianMs: median(created) },
    { name: "scratch disk destroy, 16 MiB unwritten", medianMs: median(destroyed) },
  ];
}

/** A writer that never stops notices how long it stands still: the longest of its writes during each snapshot. */
async function timeLiveSnapshot(): Promise<readonly Timing[]> {
  const target = join(directory, "live");
  await mkdir(target);
  await storage.createImage("vol_live", { sizeBytes: 10 * GB });
  const device = await storage.attach("vol_live", "rw");
  await formatFileSystem(device.path, "data");
  await mountVolume({ device: device.path, target, kind: "data", isReadOnly: false });
  const dataMib = flags.quick ? 512 : 5000;
  await runTool("dd", ["if=/dev/urandom", `of=${join(target, "data")}`, "bs=1M", `count=${dataMib}`, "conv=fsync"]);
  const longest = new Float64Array(new SharedArrayBuffer(8));
  const writer = startWriter(join(target, "log"), longest);
  const [total, stall]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round += 1) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    longest[0] = 0;
    const start = performance.now();
    await storage.sealImage("vol_live", "snp_live", { live: { mountPath: target, freezeDeadlineMs: 2000 } });
    total.push(performance.now() - start);
    await new Promise((resolve) => setTimeout(resolve, 20));
    stall.push(longest[0] ?? 0);
    await storage.deleteImage("snp_live");
  }
  await writer.terminate();
  await unmountVolume(target);
  await storage.detach(device);
  await storage.deleteImage("vol_live");
  const file = join(directory, "copy");
  await runTool("dd", ["if=/dev/urandom", `of=${file}`, "bs=1M", `count=${Math.round(dataMib / 10)}`, "conv=fsync"]);
  const copyStart = performance.now();
  await runTool("dd", [`if=${file}`, `of=${file}.2`, "bs=1M", "conv=fsync"]);
  const copyMs = performance.now() - copyStart;
  return [
    { name: `snapshot, live, 10 GB holding ${(dataMib / 1000).toFixed(1)} GB`, medianMs: median(total), budgetMs: 20 },
    { name: "  of that, the guest stands still (longest write)", medianMs: median(stall), budgetMs: 10 },
    { name: `  peer: copying a tenth of it on the host`, medianMs: copyMs },
  ];
}

function startWriter(path: string, longest: Float64Array): Worker {
  const source = `
    const { openSync, writeSync, ftruncateSync } = require("node:fs");
    const { workerData } = require("node:worker_threads");
    const file = openSync(workerData.path, "w");
    const block = Buffer.alloc(4096, 1);
    for (let position = 0; ; position = (position + 4096) % (4 * 1048576)) {
      const start = performance.now();
      writeSync(file, block, 0, 4096, position);
      const duration = performance.now() - start;
      if (duration > workerData.longest[0]) workerData.longest[0] = duration;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 0.2);
    }`;
  return new Worker(source, { eval: true, workerData: { path, longest } });
}

async function compareWithHost(): Promise<readonly Comparison[]> {
  const volume = join(directory, "io-volume");
  const host = join(directory, "io-host");
  for (const path of [volume, host]) await mkdir(path);
  await storage.createImage("vol_io", { sizeBytes: 10 * GB });
  const device = await storage.attach("vol_io", "rw");
  await formatFileSystem(device.path, "data");
  await mountVolume({ device: device.path, target: volume, kind: "data", isReadOnly: false });
  const tree = await makeFileTree(join(directory, "tree"));
  const workloads: readonly [name: string, unit: string, goal: number, run: (path: string) => Promise<number>][] = [
    ["4 KiB random overwrites, fsync each", "/s", 0.5, (path) => countSyncedWrites("overwrite", path)],
    ["4 KiB random overwrites, fdatasync each", "/s", 0.5, (path) => countSyncedWrites("overwrite-data", path)],
    ["4 KiB appends, fsync each", "/s", 0.5, (path) => countSyncedWrites("append", path)],
    [
      "SQLite inserts, one transaction each (WAL, synchronous=FULL)",
      "/s",
      0.8,
      (path) => countSyncedWrites("sqlite", path),
    ],
    ["large sequential write, fsync at the end", "MiB/s", 0.95, largeWrite],
    ["large sequential read, page cache bypassed", "MiB/s", 0.95, largeRead],
    ["git clone of a local repository, then sync", "files/s", 0.8, (path) => cloneRepository(tree, path)],
    ["unpacking a tar of many files, then sync", "files/s", 0.8, (path) => unpackArchive(tree, path)],
  ];
  const comparisons: Comparison[] = [];
  for (const [name, unit, goal, run] of workloads) {
    const rates = { host: [] as number[], hostAwake: [] as number[], volume: [] as number[] };
    // The first turn on each allocates what later ones overwrite; it counts like any other where there are several.
    for (let turn = 0; turn < TURNS; turn += 1) {
      rates.host.push(await run(host));
      rates.volume.push(await run(volume));
      await delay(PAUSE_MS);
      await using _awake = await keepProcessorsAwake();
      rates.hostAwake.push(await run(host));
    }
    const [onHost, onHostAwake, onVolume] = [median(rates.host), median(rates.hostAwake), median(rates.volume)];
    comparisons.push({
      name,
      unit,
      goal,
      host: onHost,
      hostAwake: onHostAwake,
      volume: onVolume,
      ratio: onVolume / onHost,
      ratioAwake: onVolume / onHostAwake,
    });
  }
  await unmountVolume(volume);
  await storage.detach(device);
  await storage.deleteImage("vol_io");
  return comparisons;
}

async function largeWrite(path: string): Promise<number> {
  const file = join(path, "large");
  await rm(file, { force: true });
  const start = performance.now();
  await runTool("dd", ["if=/dev/zero", `of=${file}`, "bs=1M", `count=${LARGE_MIB}`, "conv=fsync"]);
  return LARGE_MIB / ((performance.now() - start) / 1000);
}

async function largeRead(path: string): Promise<number> {
  const start = performance.now();
  await runTool("dd", [`if=${join(path, "large")}`, "of=/dev/null", "bs=4M", "iflag=direct"]);
  return LARGE_MIB / ((performance.now() - start) / 1000);
}
