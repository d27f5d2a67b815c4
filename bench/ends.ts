import { availableParallelism, cpus } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Sandbox } from "@deno/sandbox";
import { TestClient } from "../tests/support/client.ts";
import { TestServer } from "../tests/support/server.ts";
import { median, printTable, quantile, timed, writeResults } from "./support/report.ts";
import { run } from "./support/run.ts";

/**
 * How long a kill takes until it is answered, of warm and cold sandboxes; then of many at once, through the official client, which gives up on one after 10 s.
 * With `BEFORE=DIRECTORY`, another working tree of this repository, its server is measured too, in turns in the same run, so that both meet the same noise.
 * Goal: 20 ms (docs/adr/0005). Run it with: BEFORE=DIRECTORY scripts/isolate.sh node bench/ends.ts
 */
const ROUNDS = Number(process.env.CAISSON_BENCH_ROUNDS ?? 20);
const AT_ONCE = Number(process.env.AT_ONCE ?? 100);
const CREATES_AT_ONCE = 8;
/** Longer than a refill takes that begins after the latest create. */
const PAUSE_MS = 500;

type Options = NonNullable<Parameters<typeof Sandbox.create>[0]>;

const KINDS: readonly (readonly [name: string, options: Options])[] = [
  ["built-in image", {}],
  ["built-in image, with a volume", { volumes: { "/data": "bench-data" } }],
  ["lasting root", { root: "bench-root" }],
];

const here = join(import.meta.dirname, "..");
const trees = process.env.BEFORE === undefined ? { now: here } : { before: process.env.BEFORE, now: here };
const servers = new Map<string, TestServer>();
const samples = new Map<string, number[]>();
const failures = new Map<string, number>();
const note = (name: string, durationMs: number) => void samples.set(name, [...(samples.get(name) ?? []), durationMs]);

try {
  for (const [tree, directory] of Object.entries(trees)) {
    for (const [start, count] of [
      ["warm", 4],
      ["cold", 0],
    ] as const) {
      servers.set(`${start}, ${tree}`, await startServer(directory, count));
    }
  }
  await delay(10 * PAUSE_MS);
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [kind, options] of KINDS) {
      for (const [name, server] of servers) {
        Object.assign(process.env, server.clientEnv());
        await delay(PAUSE_MS);
        const sandbox = await Sandbox.create(options);
        await run(sandbox, "echo x >/data/x 2>/dev/null || true");
        note(`${kind}: ${name}`, await timed(() => sandbox.kill()));
      }
    }
  }
  if (AT_ONCE > 0) for (const [name, server] of servers) if (name.startsWith("cold")) await measureAtOnce(name, server);
  await report();
} finally {
  for (const server of servers.values()) await server[Symbol.asyncDispose]();
}

async function startServer(tree: string, warmCount: number): Promise<TestServer> {
  const max = `max = ${AT_ONCE + 20}\nmax_per_organization = ${AT_ONCE + 20}\nkept_places = 0\n`;
  const server = await TestServer.start({ tree, settings: `[sandboxes]\nwarm_sandboxes = ${warmCount}\n${max}` });
  Object.assign(process.env, server.clientEnv());
  const client = new TestClient(server);
  await client.createVolume("bench-data", { capacity: "1GB" });
  await client.createVolume("bench-root", { from: "builtin:debian-13", capacity: "10GB" });
  return server;
}

async function measureAtOnce(name: string, server: TestServer): Promise<void> {
  Object.assign(process.env, server.clientEnv());
  const sandboxes: Sandbox[] = [];
  let wanted = AT_ONCE;
  const createInTurn = async (): Promise<void> => {
    while (wanted > 0) {
      wanted -= 1;
      sandboxes.push(await Sandbox.create({ timeout: "30m" }));
    }
  };
  await Promise.all(Array.from({ length: CREATES_AT_ONCE }, createInTurn));
  await delay(4 * PAUSE_MS);
  const allMs = await timed(() =>
    Promise.all(
      sandboxes.map(async (sandbox) => {
        const startedMs = performance.now();
        await sandbox.kill().catch((error: unknown) => {
          const message = `${name}: ${String(error instanceof Error ? error.message : error).replace(/sbx_\w+/g, "sbx_…")}`;
          failures.set(message, (failures.get(message) ?? 0) + 1);
        });
        note(`${AT_ONCE} at once, each: ${name}`, performance.now() - startedMs);
      }),
    ),
  );
  note(`${AT_ONCE} at once, all: ${name}`, allMs);
}

async function report(): Promise<void> {
  const rows = [...samples].map(([name, values]) => [name, median(values), quantile(values, 0.95)] as const);
  printTable(`Ends (kill answered): ${ROUNDS} rounds`, ["what", "median ms", "p95 ms"], rows);
  const ratios = rows
    .filter(([name]) => name.endsWith(", before"))
    .map(([name, beforeMs]) => {
      const same = name.replace(/, before$/, "");
      return [same, median(samples.get(`${same}, now`) ?? []) / beforeMs] as const;
    });
  if (ratios.length > 0) printTable("Now, as a part of before", ["what", "median"], ratios);
  for (const [message, times] of failures) console.log(`${times} times: ${message}`);
  const processors = `${availableParallelism()} processors, ${cpus()[0]?.model ?? "unknown"}`;
  console.log(`\n${processors}`);
  await writeResults("ends", {
    rounds: ROUNDS,
    atOnce: AT_ONCE,
    processors,
    medianMs: Object.fromEntries(rows.map(([name, value]) => [name, value])),
    p95Ms: Object.fromEntries(rows.map(([name, , value]) => [name, value])),
    partOfBefore: Object.fromEntries(ratios),
    failures: Object.fromEntries(failures),
  });
}
