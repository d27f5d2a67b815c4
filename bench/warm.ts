import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Sandbox } from "@deno/sandbox";
import { TestClient } from "../tests/support/client.ts";
import { TestServer } from "../tests/support/server.ts";
import { openPeers } from "./support/peers.ts";
import { median, printTable, quantile, timed, writeResults } from "./support/report.ts";
import { run } from "./support/run.ts";

/**
 * Creates to the first command, and ends, of warm and of cold sandboxes through the official client, beside a bare `crun run true` of the same root, in turns,
 * so that all meet the same noise. Then as many at once as wait. Goals (docs/adr/0005): beside crun at most 1.0 times its median, with a volume 1.2 times,
 * and 2 times its p95; 20 at once in 500 ms; an end in 20 ms. Run it with: scripts/isolate.sh node bench/warm.ts
 */
const ROUNDS = Number(process.env.CAISSON_BENCH_ROUNDS ?? 20);
const PARALLEL = 20;
/** Longer than a refill takes that begins after the latest create. */
const PAUSE_MS = 400;

type Options = NonNullable<Parameters<typeof Sandbox.create>[0]>;

const KINDS: readonly (readonly [name: string, options: Options])[] = [
  ["built-in image", {}],
  ["built-in image, with a volume", { volumes: { "/data": "bench-data" } }],
  ["lasting root", { root: "bench-root" }],
  ["snapshot", { root: "bench-snapshot" }],
];

const directory = await mkdtemp(join(tmpdir(), "caisson-bench-"));
const servers = new Map<string, TestServer>();
const samples = new Map<string, number[]>();
const record = async (name: string, work: () => Promise<unknown>) => {
  const durationMs = await timed(work);
  samples.set(name, [...(samples.get(name) ?? []), durationMs]);
};

try {
  await using peers = await openPeers(directory);
  for (const [name, count] of [
    ["warm", PARALLEL],
    ["cold", 0],
  ] as const) {
    const server = await TestServer.start({
      settings: `log_level = "debug"\n[sandboxes]\nwarm_sandboxes = ${count}\n`,
    });
    servers.set(name, server);
    await prepareDisks(server);
  }
  await delay(PARALLEL * 200);
  const waitingBytes = await memoryOfWaiting();
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [kind, options] of KINDS) {
      for (const [name, server] of servers) {
        Object.assign(process.env, server.clientEnv());
        await delay(PAUSE_MS);
        let sandbox: Sandbox | undefined;
        await record(`${name}: create to first command, ${kind}`, async () => {
          sandbox = await Sandbox.create(options);
          await run(sandbox, "true");
        });
        await record(`${name}: end, ${kind}`, async () => sandbox?.kill());
      }
      await record("peer: crun run true", peers.crun);
    }
  }
  for (const [name, server] of servers) {
    Object.assign(process.env, server.clientEnv());
    await delay(PARALLEL * 200);
    await measureParallel(name);
  }
  await report(waitingBytes);
} finally {
  for (const server of servers.values()) await server[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
}

async function prepareDisks(server: TestServer): Promise<void> {
  Object.assign(process.env, server.clientEnv());
  const client = new TestClient(server);
  await client.createVolume("bench-data", { capacity: "1GB" });
  await client.createVolume("bench-root", { from: "builtin:debian-13", capacity: "10GB" });
  await client.snapshot("bench-root", "bench-snapshot");
}

async function measureParallel(name: string): Promise<void> {
  const sandboxes: Sandbox[] = [];
  await Promise.all(
    Array.from({ length: PARALLEL }, () =>
      record(`${name}: ${PARALLEL} at once, each to its first command`, async () => {
        const sandbox = await Sandbox.create();
        await run(sandbox, "true");
        sandboxes.push(sandbox);
      }),
    ),
  );
  await Promise.all(sandboxes.map((sandbox) => sandbox.kill()));
}

/** The proportional share of memory (Pss) of an agent that waits. */
async function memoryOfWaiting(): Promise<number> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const sizes = await Promise.all(
    pids.map(async (pid) => {
      const environment = await readFile(`/proc/${pid}/environ`, "latin1").catch(() => "");
      if (!environment.includes("CAISSON_AGENT_REHEARSE=")) return [];
      const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "latin1").catch(() => "");
      return [Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024];
    }),
  );
  // Of each container: its init, which is next to nothing, and its agent.
  return sizes.flat().reduce((sum, bytes) => sum + bytes, 0) / PARALLEL;
}

async function report(waitingBytes: number): Promise<void> {
  const rows = [...samples].map(([name, values]) => [name, median(values), quantile(values, 0.95)] as const);
  printTable(`Warm and cold sandboxes: ${ROUNDS} rounds`, ["step", "median ms", "p95 ms"], rows);
  printTable("Where a warm create's time goes, in the server", ["step", "median ms"], createSteps());
  const crun = samples.get("peer: crun run true") ?? [];
  const ratios = KINDS.map(([kind]) => {
    const warm = samples.get(`warm: create to first command, ${kind}`) ?? [];
    return [kind, median(warm) / median(crun), quantile(warm, 0.95) / quantile(crun, 0.95)] as const;
  });
  printTable("Warm, as a multiple of crun", ["root", "median", "p95"], ratios);
  console.log(`\nmemory of one that waits (Pss): ${(waitingBytes / 2 ** 20).toFixed(1)} MiB`);
  await writeResults("warm", {
    rounds: ROUNDS,
    waitingBytes,
    createStepsMs: Object.fromEntries(createSteps()),
    medianMs: Object.fromEntries(rows.map(([name, value]) => [name, value])),
    p95Ms: Object.fromEntries(rows.map(([name, , value]) => [name, value])),
  });
}

/** The server logs the trace of every create at level debug. */
function createSteps(): [string, number][] {
  const durations = new Map<string, number[]>();
  for (const line of servers.get("warm")?.logText().split("\n") ?? []) {
    if (!line.includes('"sandbox created"') || !line.includes('"adopt"')) continue;
    const { totalMs, trace } = JSON.parse(line) as { totalMs: number; trace: { step: string; durationMs: number }[] };
    for (const { step, durationMs } of [...trace, { step: "total", durationMs: totalMs }])
      durations.set(step, [...(durations.get(step) ?? []), durationMs]);
  }
  return [...durations].map(([step, values]) => [step, median(values)]);
}
