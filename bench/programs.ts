import { spawn } from "node:child_process";
import { once } from "node:events";
import { runTool } from "@caisson/linux";
import { longestBlock } from "./support/longest-block.ts";
import { median, printTable, writeResults } from "./support/report.ts";

/**
 * Programs that this process starts, beside Node's own `spawn` in the same run, in turns, by the memory that the process has: the longest time in which nothing else ran, how long 20 at once took in all, and this process's processor time.
 * Run it with: node bench/programs.ts
 */
const ROUNDS = 15;
const AT_ONCE = 20;
const MEMORY_MIB = [100, 300, 600];

const ways = {
  "Node's spawn": async () => {
    await once(spawn("true", { stdio: ["ignore", "pipe", "pipe"] }), "close");
  },
  ours: async () => {
    await runTool("true", []);
  },
} as const;

interface Sample {
  readonly blockedMs: number;
  readonly totalMs: number;
  readonly processorMs: number;
}

async function measure(start: () => Promise<void>): Promise<Sample> {
  const usage = process.cpuUsage();
  const times = await longestBlock(() => Promise.all(Array.from({ length: AT_ONCE }, start)));
  const { user, system } = process.cpuUsage(usage);
  return { ...times, processorMs: (user + system) / 1000 };
}

const ballast: Buffer[] = [];
const samples = new Map<string, Sample[]>();
for (const memoryMib of MEMORY_MIB) {
  while (process.memoryUsage().rss < memoryMib * 2 ** 20) ballast.push(Buffer.alloc(2 ** 20, 1));
  for (const start of Object.values(ways)) await measure(start);
  for (let round = 0; round < ROUNDS; round += 1)
    for (const [name, start] of Object.entries(ways)) {
      const key = `${memoryMib} MiB, ${name}`;
      samples.set(key, [...(samples.get(key) ?? []), await measure(start)]);
    }
}
const medians = [...samples].map(([name, all]) => {
  const of = (key: keyof Sample): number => median(all.map((sample) => sample[key]));
  return { name, blockedMs: of("blockedMs"), totalMs: of("totalMs"), processorMs: of("processorMs") };
});
printTable(
  `${AT_ONCE} programs at once, medians of ${ROUNDS}, ms`,
  ["memory of this process", "longest block", "in all", "processor"],
  medians.map(({ name, blockedMs, totalMs, processorMs }) => [name, blockedMs, totalMs, processorMs]),
);
await writeResults("programs", { rounds: ROUNDS, atOnce: AT_ONCE, medians });
