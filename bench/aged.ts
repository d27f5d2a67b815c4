import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { cloneFile, openFile, runTool, syncFile } from "@caisson/linux";
import {
  type BlockDevice,
  FrozenFileSystem,
  formatFileSystem,
  LocalStorage,
  mountVolume,
  unmountVolume,
} from "@caisson/storage";
import { readLastRecord, StampedWriter, scatterFile } from "@caisson/storage/testing";
import { median, printTable, timed, writeResults } from "./support/report.ts";

/**
 * Snapshots and clones of volumes that a database has fragmented, beside the way that this replaced: one clone of the whole image while the file system
 * stands still. A writer that syncs every record tells how long it stands still, and every snapshot is checked: its file system, and that it holds in
 * order what was acknowledged before the call. Then the same under PostgreSQL, with pgbench writing.
 *
 * Run as root under `scripts/isolate.sh`: `scripts/isolate.sh node bench/aged.ts [--directory DIR] [--rounds N] [--extents N,N] [--postgres SECONDS]`.
 */
const { values: flags } = parseArgs({
  options: {
    directory: { type: "string", default: tmpdir() },
    rounds: { type: "string", default: "3" },
    extents: { type: "string", default: "1000,20000,100000,300000" },
    /** How long pgbench fragments the database first; 0 leaves PostgreSQL out. */
    postgres: { type: "string", default: "60" },
  },
});

const MIB = 2 ** 20;
const ROUNDS = Number(flags.rounds);
const EXTENTS = flags.extents.split(",").map(Number);
const CAPACITY_BYTES = 10e9;
/** Every other block of it is overwritten, which makes two extents. */
const FILE_BYTES = Math.max(...EXTENTS) * 4096 + 64 * MIB;
const FREEZE_DEADLINE_MS = 2_000;
const OLD_DEADLINE_MS = 120_000;

interface Snapshot {
  readonly callMs: number;
  /** How long the file system stood still. */
  readonly frozenMs: number;
  /** The slowest write meanwhile. */
  readonly stallMs: number;
}

const directory = await mkdtemp(join(flags.directory, "caisson-aged-"));
await chmod(directory, 0o711);
const target = join(directory, "volume");
await mkdir(target);
const storage = await LocalStorage.open({ directory: join(directory, "pool"), onBackgroundError: console.error });
const load = { before: loadavg()[0] ?? 0, cpus: cpus().length };
/** The last record that was acknowledged before each snapshot was called for. */
const acknowledgedBefore = new Map<string, number>();
let device: BlockDevice | null = null;
try {
  await makeVolume();
  const extents = await measureExtents();
  await removeVolume();
  const postgres = Number(flags.postgres) === 0 ? null : await measurePostgres(Number(flags.postgres));
  await writeResults("aged", { load: { ...load, after: loadavg()[0] ?? 0 }, extents, postgres });
} finally {
  await removeVolume();
  await storage.close();
  await rm(directory, { recursive: true });
}

async function makeVolume(): Promise<void> {
  await storage.createImage("vol_aged", { sizeBytes: CAPACITY_BYTES });
  device = await storage.attach("vol_aged", "rw");
  await formatFileSystem(device.path, "data");
  await mountVolume({ device: device.path, target, kind: "data", isReadOnly: false });
}

async function removeVolume(): Promise<void> {
  if (device === null) return;
  await unmountVolume(target);
  await storage.detach(device);
  device = null;
  for await (const { id } of storage.listImages()) await storage.deleteImage(id);
}

async function measureExtents(): Promise<readonly object[]> {
  const file = join(target, "large");
  await runTool("dd", ["if=/dev/zero", `of=${file}`, "bs=1M", `count=${Math.ceil(FILE_BYTES / MIB)}`, "oflag=direct"]);
  await seal("snp_base");
  const rows: object[] = [];
  let scattered = 0;
  for (const extents of EXTENTS) {
    const blocks = Math.floor(extents / 2);
    scatterFile(file, blocks - scattered, scattered);
    scattered = blocks;
    await using writer = await StampedWriter.start(join(target, "records"));
    const results = {
      traced: [] as Snapshot[],
      seeded: [] as Snapshot[],
      old: [] as Snapshot[],
      freeze: [] as Snapshot[],
      cloneMs: [] as number[],
      renameMs: [] as number[],
      spareMs: [] as number[],
      remapMs: [] as number[],
    };
    for (let round = 0; round < ROUNDS; round += 1) {
      await storage.evictSpares();
      results.traced.push(await sealBeside(writer, "snp_1"));
      results.spareMs.push(await timed(() => storage.sparesMade()));
      await check("snp_1");
      results.renameMs.push(await timed(() => createFrom("vol_1", "snp_1")));
      await storage.sparesMade();
      results.seeded.push(await sealBeside(writer, "snp_2"));
      await check("snp_2");
      await storage.evictSpares();
      results.cloneMs.push(await timed(() => createFrom("vol_2", "snp_2")));
      for (const id of ["vol_1", "vol_2", "snp_1", "snp_2"]) await storage.deleteImage(id);
      results.old.push(await sealOldWay(writer));
      results.freeze.push(await freezeOnly(writer));
    }
    const row = {
      extents,
      snapshot: summary(results.traced),
      snapshotFromSpare: summary(results.seeded),
      oldWay: summary(results.old),
      freezeAlone: summary(results.freeze),
      stallOfOld:
        median(results.old.map(({ stallMs }) => stallMs)) / median(results.traced.map(({ stallMs }) => stallMs)),
      createMs: median(results.renameMs),
      createWithoutSpareMs: median(results.cloneMs),
      spareReadyMs: median(results.spareMs),
    };
    rows.push(row);
    show(`${extents} extents`, row);
  }
  return rows;
}

function summary(snapshots: readonly Snapshot[]): object {
  return {
    callMs: median(snapshots.map(({ callMs }) => callMs)),
    frozenMs: median(snapshots.map(({ frozenMs }) => frozenMs)),
    stallMs: median(snapshots.map(({ stallMs }) => stallMs)),
    worstFrozenMs: Math.max(...snapshots.map(({ frozenMs }) => frozenMs)),
    worstStallMs: Math.max(...snapshots.map(({ stallMs }) => stallMs)),
  };
}

function show(title: string, row: Readonly<Record<string, unknown>>): void {
  const cells = Object.entries(row).flatMap(([name, value]) =>
    typeof value === "number"
      ? [[name, value] as const]
      : Object.entries(value as Record<string, number>).map(([key, number]) => [`${name}.${key}`, number] as const),
  );
  printTable(title, ["figure", "value"], cells);
}

async function seal(id: string): Promise<number> {
  const live = { mountPath: target, freezeDeadlineMs: FREEZE_DEADLINE_MS };
  return (await storage.sealImage("vol_aged", id, { live })).frozenMs;
}

async function sealBeside(writer: StampedWriter, id: string): Promise<Snapshot> {
  await writer.progress(20);
  writer.takeLongestMs();
  acknowledgedBefore.set(id, writer.acknowledged);
  let frozenMs = 0;
  const callMs = await timed(async () => {
    frozenMs = await seal(id);
  });
  await writer.progress(5);
  return { callMs, frozenMs, stallMs: writer.takeLongestMs() };
}

/** One clone of the whole image while the file system stands still. */
async function sealOldWay(writer: StampedWriter): Promise<Snapshot> {
  await writer.progress(20);
  writer.takeLongestMs();
  const pool = join(directory, "pool");
  const images = (await stat(join(pool, "mount/images")).catch(() => null)) === null ? pool : join(pool, "mount");
  const copy = join(images, "incoming/old-way");
  let frozenMs = 0;
  const callMs = await timed(async () => {
    await using source = await openFile(join(images, "images/vol_aged"), "r");
    await using clone = await openFile(copy, "wx+");
    await using frozen = await FrozenFileSystem.freeze(target, { deadlineMs: OLD_DEADLINE_MS });
    await cloneFile(source, clone, copy);
    frozen.thaw();
    frozenMs = frozen.stalledMs;
    await syncFile(clone, copy);
  });
  await writer.progress(5);
  const stallMs = writer.takeLongestMs();
  await rm(copy);
  return { callMs, frozenMs, stallMs };
}

/** What the freeze itself costs on this machine, as loaded as it is now. */
async function freezeOnly(writer: StampedWriter): Promise<Snapshot> {
  await writer.progress(20);
  writer.takeLongestMs();
  let frozenMs = 0;
  const callMs = await timed(async () => {
    await using frozen = await FrozenFileSystem.freeze(target, { deadlineMs: FREEZE_DEADLINE_MS });
    frozen.thaw();
    frozenMs = frozen.stalledMs;
  });
  await writer.progress(5);
  return { callMs, frozenMs, stallMs: writer.takeLongestMs() };
}

async function createFrom(id: string, parent: string): Promise<void> {
  await storage.createImage(id, { sizeBytes: CAPACITY_BYTES, parent });
}

/** The snapshot needs no repair, and holds in order what was acknowledged before its call. */
async function check(id: string): Promise<void> {
  const snapshot = await storage.attach(id, "ro");
  const mountPath = join(directory, id);
  await mkdir(mountPath, { recursive: true });
  try {
    await runTool("e2fsck", ["-fn", snapshot.path]);
    await mountVolume({ device: snapshot.path, target: mountPath, kind: "data", isReadOnly: true });
    const last = readLastRecord(join(mountPath, "records"));
    if (last < (acknowledgedBefore.get(id) ?? 0))
      throw new Error(`${id} lacks records that were acknowledged before it`);
  } finally {
    await unmountVolume(mountPath);
    await storage.detach(snapshot);
  }
}

/** The slowest transaction during each snapshot, and during as long without one. */
async function measurePostgres(seconds: number): Promise<object | null> {
  const [bin = ""] = (await readdir("/usr/lib/postgresql").catch(() => [])).map(
    (name) => `/usr/lib/postgresql/${name}/bin`,
  );
  const uid = Number((await runTool("id", ["-u", "postgres"]).catch(() => "")) || Number.NaN);
  if (bin === "" || Number.isNaN(uid)) {
    console.log("PostgreSQL is not installed, so it is left out");
    return null;
  }
  await makeVolume();
  const [data, logs] = [join(target, "data"), join(directory, "logs")];
  for (const path of [data, logs]) {
    await mkdir(path);
    await chown(path, uid, uid);
  }
  const asUser = (...command: readonly string[]) =>
    runTool("setpriv", [`--reuid=${uid}`, "--clear-groups", "--", ...command]);
  await asUser(`${bin}/initdb`, "-D", data, "-A", "trust");
  const options = `-k ${logs} -c listen_addresses= -c shared_buffers=256MB -c max_wal_size=256MB`;
  await asUser(`${bin}/pg_ctl`, "-D", data, "-w", "-l", join(logs, "server"), "-o", options, "start");
  try {
    await asUser("pgbench", "-h", logs, "-i", "-q", "-s", "40", "postgres");
    await seal("snp_base");
    await runPgbench(uid, logs, seconds, "age").done;
    const rounds: Snapshot[] = [];
    const without: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const quiet = runPgbench(uid, logs, 5, `quiet${round}`);
      without.push(await quiet.done);
      await storage.evictSpares();
      const run = runPgbench(uid, logs, 12, `snapshot${round}`);
      await delay(2000);
      let frozenMs = 0;
      const callMs = await timed(async () => {
        frozenMs = await seal("snp_1");
      });
      rounds.push({ callMs, frozenMs, stallMs: await run.done });
      const snapshot = await storage.attach("snp_1", "ro");
      await runTool("e2fsck", ["-fn", snapshot.path]);
      await storage.detach(snapshot);
      await storage.deleteImage("snp_1");
    }
    const row = { snapshot: summary(rounds), slowestWithoutMs: median(without) };
    show(`PostgreSQL, after ${seconds} s of pgbench (stall: the slowest transaction of 12 s)`, row);
    return { seconds, ...row };
  } finally {
    await asUser(`${bin}/pg_ctl`, "-D", data, "-m", "immediate", "stop");
  }
}

/** Runs pgbench; `done` tells its slowest transaction in milliseconds. */
function runPgbench(uid: number, socket: string, seconds: number, name: string): { readonly done: Promise<number> } {
  const prefix = join(socket, name);
  const command = [
    "pgbench",
    "-h",
    socket,
    "-c",
    "4",
    "-n",
    "-T",
    String(seconds),
    "-l",
    `--log-prefix=${prefix}`,
    "postgres",
  ];
  const child = spawn("setpriv", [`--reuid=${uid}`, "--clear-groups", "--", ...command], { stdio: "ignore" });
  const done = once(child, "close").then(async () => {
    let slowestUs = 0;
    for (const file of await readdir(socket)) {
      if (!file.startsWith(`${name}.`)) continue;
      const lines = (await readFile(join(socket, file), "utf8")).split("\n");
      for (const line of lines) slowestUs = Math.max(slowestUs, Number(line.split(" ")[2] ?? 0));
    }
    return slowestUs / 1000;
  });
  return { done };
}
