import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { TestServer } from "../tests/support/server.ts";
import { median, printTable, writeResults } from "./support/report.ts";

/**
 * What a short command costs in processor time, its own and that of the launcher: as people run it, and from the sources, which is what it was before
 * it was bundled. The ways take turns, so that what else the machine does meets all of them. Budgets: `--version` 150 ms, `list` 250 ms.
 */
const ROUNDS = 20;
const root = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url));

const WAYS = {
  launcher: [root("caisson")],
  sources: [process.execPath, root("packages/cli/src/main.ts")],
  "empty program": [process.execPath, "-e", "0", "--"],
} as const;
const COMMANDS = [["--version"], ["list"]] as const;

await using server = await TestServer.start();
const environment = { PATH: process.env.PATH ?? "", HOME: "/nonexistent", ...server.clientEnv() };
const samples = new Map<string, number[]>();
for (let round = 0; round <= ROUNDS; round += 1) {
  for (const command of COMMANDS) {
    for (const [way, words] of Object.entries(WAYS)) {
      const cpuMs = run([...words, ...command]);
      const name = `${command.join(" ")}, ${way}`;
      // The first round bundles and compiles.
      if (round > 0) samples.set(name, [...(samples.get(name) ?? []), cpuMs]);
    }
  }
}
const rows = [...samples].map(([name, times]) => [name, `${median(times).toFixed(0)} ms`] as const);
printTable("Command line, processor time", ["command", "median"], rows);
await writeResults("command-line", Object.fromEntries(rows));

/** Runs a program to its end and returns the processor time that it and its children took, in milliseconds. */
function run(words: readonly string[]): number {
  // `times` of the shell knows the children's.
  const { stdout, stderr, status } = spawnSync("bash", ["-c", '"$@" >/dev/null && times', "bash", ...words], {
    env: environment,
    encoding: "utf8",
  });
  const line = stdout.trim().split("\n").at(-1) ?? "";
  const parts = [...line.matchAll(/(\d+)m([\d.,]+)s/g)].map(([, minutes, seconds]) => {
    return Number(minutes) * 60_000 + Number(seconds?.replace(",", ".")) * 1_000;
  });
  if (status !== 0 || parts.length !== 2) throw new Error(`${words.join(" ")} failed: ${stderr}`);
  return parts.reduce((sum, ms) => sum + ms, 0);
}
