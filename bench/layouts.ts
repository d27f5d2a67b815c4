import { constants } from "node:fs";
import { mkdir, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import {
  keepProcessorsAwake,
  LoopDevice,
  mountFileSystem,
  openFile,
  openUntimed,
  runTool,
  truncateFile,
  unmount,
} from "@caisson/linux";
import { printTable, writeResults } from "./support/report.ts";
import { countSyncedWrites, type SyncedWorkload } from "./support/synced-writes.ts";

/**
 * What each layer between a volume and the disk costs a synced write, and what other ways to lay them out would: stacks of file systems and loop devices,
 * made by hand and measured in turns beside the host's own file system and one with a journal. Every layout keeps what was acknowledged.
 *
 * Run as root under `scripts/isolate.sh`: `scripts/isolate.sh node bench/layouts.ts [--directory DIR] [--turns N] [--only NAME,NAME] [--halting]`.
 * Processors are kept awake all the time, as on hosts whose processors never halt; with `--halting` they are left as they are.
 */
const { values: flags } = parseArgs({
  options: {
    directory: { type: "string", default: tmpdir() },
    turns: { type: "string", default: "8" },
    only: { type: "string", default: "" },
    halting: { type: "boolean", default: false },
  },
});

const MIB = 2 ** 20;
const POOL_MIB = 1024;
const VOLUME_MIB = 512;
/** Many short turns, of which the best counts: whatever else the machine does makes a turn slower, and none faster. */
const TURN_SECONDS = 0.5;
const WORKLOADS: readonly SyncedWorkload[] = ["overwrite", "overwrite-data", "append", "sqlite"];
/** As `formatFileSystem` and the pool file make theirs. */
const VOLUME_OPTIONS = ["-q", "-b", "4096", "-I", "256", "-i", "10240", "-m", "0", "-E"];
const POOL_OPTIONS = ["-q", "-K", "-m", "crc=1,finobt=1,reflink=1,rmapbt=0,bigtime=1,inobtcount=1"];

interface Layout {
  readonly name: string;
  /** Makes it in an empty directory, and says where its files go; `defer` undoes what was made, the last first. */
  readonly make: (directory: string, undo: AsyncDisposableStack) => Promise<string>;
}

interface Backing {
  /** All of the file is written beforehand, so that nothing below is allocated later. */
  readonly isWritten?: boolean;
  readonly isBuffered?: boolean;
  /** Which processor completes a request: 0 any, 1 one near the caller's (the kernel's default), 2 the caller's. */
  readonly affinity?: 0 | 1 | 2;
}

interface Stack {
  readonly pool?: Backing & { readonly format?: readonly string[]; readonly hasOuterLog?: boolean };
  readonly volume?: Backing & { readonly format?: readonly string[]; readonly hasOuterJournal?: boolean };
  /** The volume's image lies on the disk's own file system, one layer less. */
  readonly isWithoutPool?: boolean;
}

const volumeWith = (stack: Stack): Layout["make"] => {
  return async (directory, undo) => {
    const { pool = {}, volume = {} } = stack;
    const images = join(directory, "pool");
    await mkdir(images);
    if (stack.isWithoutPool !== true) {
      const device = await attach(join(directory, "pool.xfs"), POOL_MIB, pool, undo);
      const log =
        pool.hasOuterLog === true ? await attach(join(directory, "log"), 128, { isWritten: true }, undo) : null;
      const outer = log === null ? [] : ["-l", `logdev=${log}`];
      await runTool("mkfs.xfs", ["-f", ...POOL_OPTIONS, ...(pool.format ?? []), ...outer, device]);
      const options = log === null ? {} : { options: `logdev=${log}` };
      await mount({ type: "xfs", source: device, target: images, ...options }, undo);
    }
    const device = await attach(join(images, "image"), VOLUME_MIB, volume, undo);
    let journal = ["-J", "size=16"];
    if (volume.hasOuterJournal === true) {
      const outer = await attach(join(directory, "journal"), 64, { isWritten: true }, undo);
      await runTool("mkfs.ext4", ["-q", "-b", "4096", "-O", "journal_dev", outer]);
      journal = ["-J", `device=${outer}`];
    }
    const format = volume.format ?? journal;
    await runTool("mkfs.ext4", [...VOLUME_OPTIONS, "nodiscard,assume_storage_prezeroed=1", ...format, device]);
    return await mountAt(join(directory, "volume"), { type: "ext4", source: device }, undo);
  };
};

/** A file system of users' hosts, with its journal. It lies on a loop device over a written file, since the machine measured has one disk. */
const withJournal: Layout["make"] = async (directory, undo) => {
  const device = await attach(join(directory, "disk"), 2 * POOL_MIB, { isWritten: true }, undo);
  await runTool("mkfs.ext4", ["-q", "-m", "0", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", device]);
  return await mountAt(join(directory, "disk-mount"), { type: "ext4", source: device }, undo);
};

const LAYOUTS: readonly Layout[] = [
  { name: "host", make: async (directory) => directory },
  { name: "host-with-journal", make: withJournal },
  { name: "caisson", make: volumeWith({}) },
  {
    name: "caisson-on-journal",
    make: async (directory, undo) => volumeWith({})(await withJournal(directory, undo), undo),
  },
  { name: "written-volume", make: volumeWith({ volume: { isWritten: true } }) },
  { name: "written-pool", make: volumeWith({ pool: { isWritten: true } }) },
  { name: "both-written", make: volumeWith({ pool: { isWritten: true }, volume: { isWritten: true } }) },
  { name: "no-pool-file", make: volumeWith({ isWithoutPool: true }) },
  { name: "no-pool-file-written", make: volumeWith({ isWithoutPool: true, volume: { isWritten: true } }) },
  { name: "buffered-pool", make: volumeWith({ pool: { isBuffered: true } }) },
  { name: "completion-anywhere", make: volumeWith({ pool: { affinity: 0 }, volume: { affinity: 0 } }) },
  { name: "completion-at-caller", make: volumeWith({ pool: { affinity: 2 }, volume: { affinity: 2 } }) },
  { name: "journal-64", make: volumeWith({ volume: { format: ["-J", "size=64"] } }) },
  { name: "fast-commit", make: volumeWith({ volume: { format: ["-J", "size=16", "-O", "fast_commit"] } }) },
  { name: "outer-journal", make: volumeWith({ volume: { hasOuterJournal: true } }) },
  { name: "larger-log", make: volumeWith({ pool: { format: ["-l", "size=200m"] } }) },
  { name: "outer-log", make: volumeWith({ pool: { hasOuterLog: true } }) },
];

const only = flags.only === "" ? null : flags.only.split(",");
const layouts = LAYOUTS.filter(({ name }) => only === null || only.includes(name));
const rates = new Map(layouts.map(({ name }) => [name, new Map<SyncedWorkload, number[]>()]));
const root = await mkdtemp(join(flags.directory, "caisson-layouts-"));
try {
  await using _awake = flags.halting ? null : await keepProcessorsAwake();
  await using undo = new AsyncDisposableStack();
  const places = new Map<string, string>();
  for (const { name, make } of layouts) {
    const directory = join(root, name);
    await mkdir(directory);
    places.set(name, await make(directory, undo));
  }
  for (let turn = 0; turn < Number(flags.turns); turn += 1) {
    for (const workload of WORKLOADS) {
      for (const [name, place] of places) {
        const rate = await countSyncedWrites(workload, place, TURN_SECONDS);
        const all = rates.get(name);
        all?.set(workload, [...(all.get(workload) ?? []), rate]);
        await delay(20);
      }
    }
  }
} finally {
  await rm(root, { recursive: true });
}
const host = rates.get("host");
const rows = [...rates].map(([name, byWorkload]) => {
  const figures = WORKLOADS.map((workload) => {
    const all = byWorkload.get(workload) ?? [];
    const best = Math.max(...all);
    return { workload, all, best, ofHost: best / Math.max(...(host?.get(workload) ?? [])) };
  });
  return { name, figures };
});
printTable(
  `synced writes a second (of the host's), processors ${flags.halting ? "as they are" : "awake"}`,
  ["layout", ...WORKLOADS],
  rows.map(({ name, figures }) => [
    name,
    ...figures.map(({ best, ofHost }) => `${best.toFixed(0)} (${ofHost.toFixed(2)})`),
  ]),
);
await writeResults(flags.halting ? "layouts-halting" : "layouts", { rows });

/** A loop device over a new file. Where the file system below can, it leaves the file's times alone, as the pool does. */
async function attach(path: string, sizeMib: number, backing: Backing, undo: AsyncDisposableStack): Promise<string> {
  await writeFile(path, "", { flag: "wx" });
  if (backing.isWritten === true)
    await runTool("dd", ["if=/dev/zero", `of=${path}`, "bs=4M", `count=${sizeMib / 4}`, "oflag=direct"]);
  await using file = await openFile(path, "r+");
  await truncateFile(file, sizeMib * MIB, path);
  await file.sync();
  await using directory = await open(dirname(path), "r");
  const untimed = await openUntimed(directory, file, constants.O_RDWR, path).catch(() => null);
  const device = await LoopDevice.attach(untimed ?? file, { isDirect: backing.isBuffered !== true, name: path });
  undo.defer(() => device.detach());
  await untimed?.close();
  if (backing.affinity !== undefined)
    await writeFile(`/sys/block/${basename(device.path)}/queue/rq_affinity`, String(backing.affinity));
  return device.path;
}

async function mountAt(
  target: string,
  options: Omit<Parameters<typeof mountFileSystem>[0], "target">,
  undo: AsyncDisposableStack,
): Promise<string> {
  await mkdir(target);
  await mount({ ...options, target }, undo);
  return target;
}

async function mount(options: Parameters<typeof mountFileSystem>[0], undo: AsyncDisposableStack): Promise<void> {
  await mountFileSystem(options, { noAtime: true });
  undo.defer(() => unmount(options.target));
}
