import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, open, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { Client, type Sandbox } from "@caisson/sdk";
import { TestServer } from "../tests/support/server.ts";
import { median, printTable, timed, writeResults } from "./support/report.ts";

/**
 * A tree of small files into a sandbox and out of it by the SDK and by the command (the start of its process included), beside tar through a process in the sandbox in the same run, in turns; then a file
 * of 1 GB that is nearly all holes, beside one of 1 GB of data. Run it with: scripts/isolate.sh node bench/copies.ts
 */
const ROUNDS = 5;
const LARGE_ROUNDS = 3;
const DIRECTORIES = 40;
const FILES_PER_DIRECTORY = 50;

const LAUNCHER = fileURLToPath(new URL("../caisson", import.meta.url));

const directory = await mkdtemp(join(tmpdir(), "caisson-bench-"));
const server = await TestServer.start();
const samples = new Map<string, number[]>();
const record = async (name: string, work: () => Promise<unknown>) => {
  const durationMs = await timed(work);
  samples.set(name, [...(samples.get(name) ?? []), durationMs]);
};

try {
  const tree = await makeTree(directory);
  await using sandbox = await new Client({ token: server.token, apiEndpoint: server.endpoint }).sandboxes.create();
  for (let round = 0; round < ROUNDS; round += 1) {
    const [here, there] = [join(directory, `back-${round}`), `/home/app/${round}`];
    for (const name of ["tar", "sdk", "cp"]) {
      await mkdir(join(here, name), { recursive: true });
      await sandbox.fs.mkdir(`${there}/${name}`, { recursive: true });
    }
    await record("up, tar", () => tarUp(sandbox, `${there}/tar`));
    await record("up, upload()", () => sandbox.fs.upload(tree, `${there}/sdk`));
    await record("up, caisson cp", () => caisson("cp", tree, `${sandbox.id}:${there}/cp/`));
    await record("down, tar", () => tarDown(sandbox, `${there}/sdk`, join(here, "tar")));
    await record("down, download()", () => sandbox.fs.download(`${there}/tar/tree`, join(here, "sdk")));
    await record("down, caisson cp", () => caisson("cp", `${sandbox.id}:${there}/cp/tree`, `${join(here, "cp")}/`));
    await rm(here, { recursive: true });
    await sandbox.fs.remove(there, { recursive: true });
  }
  const large = await measureLarge(sandbox);
  const medians = Object.fromEntries([...samples].map(([name, values]) => [name, median(values)]));
  const ratio = (ours: string, tar: string) => (medians[ours] ?? Number.NaN) / (medians[tar] ?? Number.NaN);
  const ratios = {
    up: ratio("up, upload()", "up, tar"),
    "up, by the command": ratio("up, caisson cp", "up, tar"),
    down: ratio("down, download()", "down, tar"),
    "down, by the command": ratio("down, caisson cp", "down, tar"),
  };
  printTable(
    `${DIRECTORIES * FILES_PER_DIRECTORY} files of 1 to 3 KB, ms, medians of ${ROUNDS}`,
    ["", "median"],
    Object.entries(medians),
  );
  printTable("our time for each second of tar's", ["", "ratio"], Object.entries(ratios));
  printTable(`files of 1 GB, medians of ${LARGE_ROUNDS}`, ["", "ms", "MB stored"], large);
  await writeResults("copies", { medians, ratios, large });
} finally {
  await rm(directory, { recursive: true });
  await server[Symbol.asyncDispose]();
}

/** Milliseconds and, of the copies, MB that they take. */
async function measureLarge(sandbox: Sandbox): Promise<(readonly [string, number, number])[]> {
  const data = Buffer.alloc(2 ** 20, "data");
  const rows: (readonly [string, number, number])[] = [];
  for (const [name, count, spacing] of [
    ["holes", 16, 61],
    ["data", 953, 1],
  ] as const) {
    const [source, inside, back] = [join(directory, name), `/home/app/${name}`, join(directory, `${name}-back`)];
    const file = await open(source, "w");
    for (let index = 0; index < count; index += 1) await file.write(data, 0, data.length, index * spacing * 2 ** 20);
    await file.truncate(1e9);
    await file.close();
    const [up, down]: [number[], number[]] = [[], []];
    for (let round = 0; round < LARGE_ROUNDS; round += 1) {
      up.push(await timed(() => sandbox.fs.upload(source, inside)));
      down.push(await timed(() => sandbox.fs.download(inside, back)));
    }
    rows.push([`${name}, up`, median(up), ((await sandbox.fs.stat(inside)).blocks * 512) / 1e6]);
    rows.push([`${name}, down`, median(down), ((await stat(back)).blocks * 512) / 1e6]);
    await sandbox.fs.remove(inside);
  }
  return rows;
}

async function caisson(...words: readonly string[]): Promise<void> {
  const env = { ...process.env, ...server.clientEnv() };
  const child = spawn(LAUNCHER, words, { env, stdio: ["ignore", "ignore", "inherit"] });
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`caisson ${words.join(" ")} ended with ${code}`);
}

async function makeTree(parent: string): Promise<string> {
  const tree = join(parent, "tree");
  for (let number = 0; number < DIRECTORIES; number += 1) {
    await mkdir(join(tree, `d${number}`), { recursive: true });
    for (let index = 0; index < FILES_PER_DIRECTORY; index += 1) {
      await writeFile(join(tree, `d${number}`, `f${index}.txt`), `line ${number} ${index}\n`.repeat(100 + index * 3));
    }
  }
  return tree;
}

async function tarUp(sandbox: Sandbox, target: string): Promise<void> {
  const inside = await sandbox.spawn("tar", { args: ["-C", target, "-xf", "-"], stdin: "piped", stdout: "null" });
  const here = spawn("tar", ["-C", directory, "-cf", "-", "tree"], { stdio: ["ignore", "pipe", "inherit"] });
  if (inside.stdin === null) throw new TypeError("tar has no input");
  await (Readable.toWeb(here.stdout) as ReadableStream<Uint8Array>).pipeTo(inside.stdin);
  if (!(await inside.status).success) throw new Error("tar failed in the sandbox");
}

async function tarDown(sandbox: Sandbox, source: string, target: string): Promise<void> {
  const inside = await sandbox.spawn("tar", { args: ["-C", source, "-cf", "-", "tree"], stdout: "piped" });
  const here = spawn("tar", ["-C", target, "-xf", "-"], { stdio: ["pipe", "inherit", "inherit"] });
  const closed = once(here, "close");
  await inside.stdout?.pipeTo(Writable.toWeb(here.stdin) as WritableStream<Uint8Array>);
  const [code] = await closed;
  if (code !== 0) throw new Error("tar failed on this machine");
}
