import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Sandbox } from "@deno/sandbox";
import { TestServer } from "../tests/support/server.ts";
import { openPeers } from "./support/peers.ts";
import { median, printTable, quantile, timed, writeResults } from "./support/report.ts";
import { run } from "./support/run.ts";
import { findProcess, probedEnv, processorSeconds, SERVER_COMMAND, takeLongestBlock } from "./support/server-probe.ts";

/**
 * Many sandboxes on one machine: so many one after the other, what each has for itself, their ends; then half as many at once. Beside them bare `crun run
 * true` of the same root, in turns and as many at once. Goals: 500, 15 MB of private memory each, 250 at once in 30 s. Where `kernel.pid_max` is too small
 * for so many, it says so. Run it with: scripts/isolate.sh node bench/many.ts
 */
const COUNT = Number(process.env.COUNT ?? 500);
const AT_ONCE = Number(process.env.AT_ONCE ?? COUNT / 2);
/** Between two runs of the peer. */
const PEER_EVERY = 10;
/** The first and the last of them show whether a start takes longer among many. */
const ENDS_OF_THE_LINE = Math.ceil(COUNT / 10);
const ENDS_AT_ONCE = 16;
/** While nothing happens. */
const IDLE_MS = 10_000;

const directory = await mkdtemp(join(tmpdir(), "caisson-bench-"));
const settings = `[sandboxes]\nmax = ${COUNT + 50}\nmax_per_organization = ${COUNT + 50}\nkept_places = 0\n`;
const server = await TestServer.start({ settings, env: probedEnv });
Object.assign(process.env, server.clientEnv());
const failures = new Map<string, number>();
const rows: [string, string][] = [];
const note = (name: string, value: number | string, digits = 1) =>
  void rows.push([name, typeof value === "number" ? value.toFixed(digits) : value]);

try {
  await using peers = await openPeers(directory);
  await measureInTurn(peers.crun);
  await measureAtOnce(peers.crun);
} finally {
  await server[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
  printTable(`${COUNT} sandboxes`, ["figure", ""], rows);
  for (const [message, times] of failures) console.log(`${times} times: ${message}`);
}
await writeResults("many", {
  count: COUNT,
  atOnce: AT_ONCE,
  ...Object.fromEntries(rows),
  failures: Object.fromEntries(failures),
});

async function measureInTurn(crun: () => Promise<void>): Promise<void> {
  const sandboxes: Sandbox[] = [];
  const creates: number[] = [];
  const peerMs: number[] = [];
  const availableBefore = await availableBytes();
  const descriptorsBefore = await descriptorCount();
  const mountsBefore = await mountCount();
  const totalMs = await timed(async () => {
    for (let index = 0; index < COUNT; index += 1) {
      creates.push(await timed(() => createOne(sandboxes)));
      if (index % PEER_EVERY === 0) peerMs.push(await timed(crun));
    }
  });
  const running = sandboxes.length;
  note("in turn: running", running, 0);
  note("in turn: created in, s", totalMs / 1000);
  note("in turn: create to first command, median ms", median(creates));
  note("in turn: create to first command, p95 ms", quantile(creates, 0.95));
  note(`in turn: median of the first ${ENDS_OF_THE_LINE}, ms`, median(creates.slice(0, ENDS_OF_THE_LINE)));
  note(`in turn: median of the last ${ENDS_OF_THE_LINE}, ms`, median(creates.slice(-ENDS_OF_THE_LINE)));
  note("peer: crun run true in turn, median ms", median(peerMs));
  note(
    `peer: crun run true beside the last ${ENDS_OF_THE_LINE}, median ms`,
    median(peerMs.slice(-ENDS_OF_THE_LINE / PEER_EVERY)),
  );
  const memory = await memoryEach();
  note(
    "memory: private of one (agent, init, OCI runtime), median MB",
    median(memory.map((one) => one.privateBytes)) / 1e6,
  );
  note("memory: Pss of one, median MB", median(memory.map((one) => one.pssBytes)) / 1e6);
  note(
    "memory: less available for each, kernel and server included, MB",
    (availableBefore - (await availableBytes())) / running / 1e6,
  );
  note("memory: server's private, MB", (await rollup(await findProcess(SERVER_COMMAND))).privateBytes / 1e6);
  note("processes and threads of one, median", median(memory.map((one) => one.threads)), 0);
  note("server's descriptors for each", ((await descriptorCount()) - descriptorsBefore) / running);
  const serverPid = await findProcess(SERVER_COMMAND);
  note("mounts of the server for each", ((await mountCount()) - mountsBefore) / running);
  const before = await processorSeconds(serverPid);
  await delay(IDLE_MS);
  note(
    "server's processor time while all are idle, % of one",
    (100 * ((await processorSeconds(serverPid)) - before)) / (IDLE_MS / 1000),
  );
  await takeLongestBlock(server);
  await endAll("in turn", sandboxes);
}

async function measureAtOnce(crun: () => Promise<void>): Promise<void> {
  const sandboxes: Sandbox[] = [];
  await takeLongestBlock(server);
  const creates: number[] = [];
  const totalMs = await timed(() =>
    Promise.all(Array.from({ length: AT_ONCE }, async () => creates.push(await timed(() => createOne(sandboxes))))),
  );
  note(`${AT_ONCE} at once: running`, sandboxes.length, 0);
  note(`${AT_ONCE} at once: all answered in, s`, totalMs / 1000);
  note(`${AT_ONCE} at once: each, median ms`, median(creates));
  note(`${AT_ONCE} at once: longest block of the event loop, ms`, (await takeLongestBlock(server)).longestBlockMs);
  await endAll(`${AT_ONCE} at once`, sandboxes);
  const peerMs = await timed(() => Promise.all(Array.from({ length: AT_ONCE }, crun)));
  note(`peer: ${AT_ONCE} crun run true at once, s`, peerMs / 1000);
}

async function createOne(sandboxes: Sandbox[]): Promise<void> {
  await count(
    Sandbox.create({ timeout: "30m" }).then(async (sandbox) => {
      sandboxes.push(sandbox);
      await run(sandbox, "true");
    }),
  );
}

/** Waits, and counts a failure by its message. */
async function count(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    const message = String(error instanceof Error ? error.message : error).replace(/sbx_\w+/g, "sbx_…");
    failures.set(message, (failures.get(message) ?? 0) + 1);
  }
}

async function endAll(name: string, sandboxes: readonly Sandbox[]): Promise<void> {
  const left = [...sandboxes];
  const endInTurn = async (): Promise<void> => {
    for (let sandbox = left.pop(); sandbox !== undefined; sandbox = left.pop()) await count(sandbox.kill());
  };
  // The client gives up on an end after 10 s, which so many at once would take together.
  const ends = await timed(() => Promise.all(Array.from({ length: ENDS_AT_ONCE }, endInTurn)));
  note(`${name}: all ended in, s`, ends / 1000);
}

interface Memory {
  readonly privateBytes: number;
  readonly pssBytes: number;
}

/** Of every sandbox that runs or waits: its processes, by the user of the host that its root is, and the OCI runtime's, which is their parent. */
async function memoryEach(): Promise<readonly (Memory & { readonly threads: number })[]> {
  const found = new Map<number, { privateBytes: number; pssBytes: number; threads: number }>();
  for (const name of (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry))) {
    const owner = await stat(`/proc/${name}`).catch(() => null);
    if (owner === null || owner.uid < 0x70000000 || owner.uid >= 0x7ffe0000) continue;
    const status = await readFile(`/proc/${name}/status`, "utf8").catch(() => "");
    const parent = Number(/^PPid:\s+(\d+)/m.exec(status)?.[1] ?? 0);
    const isFirst = (await stat(`/proc/${parent}`).catch(() => null))?.uid === 0;
    const sum = found.get(owner.uid) ?? { privateBytes: 0, pssBytes: 0, threads: 0 };
    for (const pid of isFirst ? [Number(name), parent] : [Number(name)]) {
      const { privateBytes, pssBytes } = await rollup(pid);
      sum.privateBytes += privateBytes;
      sum.pssBytes += pssBytes;
    }
    sum.threads += Number(/^Threads:\s+(\d+)/m.exec(status)?.[1] ?? 0) + (isFirst ? 1 : 0);
    found.set(owner.uid, sum);
  }
  return [...found.values()];
}

async function rollup(pid: number): Promise<Memory> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, "utf8").catch(() => "");
  const bytesOf = (field: RegExp) =>
    [...text.matchAll(field)].reduce((sum, [, amount]) => sum + Number(amount) * 1024, 0);
  return { privateBytes: bytesOf(/^Private_\w+:\s+(\d+) kB$/gm), pssBytes: bytesOf(/^Pss:\s+(\d+) kB$/gm) };
}

async function availableBytes(): Promise<number> {
  return Number(/^MemAvailable:\s+(\d+)/m.exec(await readFile("/proc/meminfo", "utf8"))?.[1] ?? 0) * 1024;
}

async function descriptorCount(): Promise<number> {
  return (await readdir(`/proc/${await findProcess(SERVER_COMMAND)}/fd`)).length;
}

async function mountCount(): Promise<number> {
  return (await readFile(`/proc/${await findProcess(SERVER_COMMAND)}/mountinfo`, "utf8")).split("\n").length;
}
