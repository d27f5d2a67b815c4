import { mkdtemp, open, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runTool } from "@caisson/linux";
import { Client } from "@caisson/sdk";
import { TestServer } from "../tests/support/server.ts";
import { median, printTable, timed, writeResults } from "./support/report.ts";

/**
 * Exports and imports of a snapshot of the built-in image, as a snapshot file and raw, beside `cp --sparse=always` of the same image in the same run, in turns; MB/s of what the
 * snapshot holds. Run it with: scripts/isolate.sh node bench/snapshot-files.ts
 */
const ROUNDS = 3;

const directory = await mkdtemp(join(tmpdir(), "caisson-bench-"));
const server = await TestServer.start();
const samples = new Map<string, number[]>();
const record = async (name: string, work: () => Promise<unknown>): Promise<void> => {
  samples.set(name, [...(samples.get(name) ?? []), await timed(work)]);
};

try {
  const { volumes, snapshots } = new Client({ token: server.token, apiEndpoint: server.endpoint });
  await volumes.create({ slug: "root", region: "ord", capacity: "2GB", from: "builtin:debian-13" });
  const snapshot = await volumes.snapshot("root", { slug: "root-1" });
  const [file, raw, copy] = ["file", "raw", "copy"].map((name) => join(directory, name)) as [string, string, string];
  const write = async (path: string, isRaw: boolean): Promise<void> => {
    await using target = await open(path, "w");
    for await (const piece of await snapshots.export("root-1", { raw: isRaw })) await target.writeFile(piece);
    await target.sync();
  };
  const read = async (path: string, isRaw: boolean): Promise<void> => {
    await using source = await open(path, "r");
    const pieces = source.createReadStream({ highWaterMark: 2 ** 18, autoClose: false });
    await snapshots.import(pieces, { slug: "back", raw: isRaw });
  };
  await write(raw, true);
  const before = await serverMemory();
  for (let round = 0; round < ROUNDS; round += 1) {
    await record("cp --sparse=always, and sync", async () => {
      await runTool("cp", ["--sparse=always", raw, copy]);
      await runTool("sync", [copy]);
    });
    await record("export", () => write(file, false));
    await record("import", () => read(file, false));
    await snapshots.delete("back", { now: true });
    await record("export --raw", () => write(raw, true));
    await record("import --raw", () => read(raw, true));
    await snapshots.delete("back", { now: true });
  }
  const dataBytes = snapshot.used;
  const fileBytes = (await stat(file)).size;
  const rows = [...samples].map(([name, values]) => {
    const ms = median(values);
    return { name, ms, megabytesPerSecond: dataBytes / 1e3 / ms };
  });
  printTable(
    `a snapshot of ${(dataBytes / 1e6).toFixed(0)} MB in an image of 2 GB; its file has ${(fileBytes / 1e6).toFixed(0)} MB. Medians of ${ROUNDS}`,
    ["", "ms", "MB/s"],
    rows.map(({ name, ms, megabytesPerSecond }) => [name, ms, megabytesPerSecond] as const),
  );
  const grownBytes = (await serverMemory()) - before;
  console.log(`The server grew by ${(grownBytes / 1e6).toFixed(0)} MB`);
  await writeResults("snapshot-files", { dataBytes, fileBytes, rows, grownBytes });
} finally {
  await rm(directory, { recursive: true });
  await server[Symbol.asyncDispose]();
}

/** Resident bytes of the server. */
async function serverMemory(): Promise<number> {
  const text = await (await server.request("/metrics")).text();
  return Number(/^process_resident_memory_bytes (\S+)/m.exec(text)?.[1]);
}
