import { readdir, readFile } from "node:fs/promises";
import { Sandbox } from "@deno/sandbox";
import { TestServer } from "../tests/support/server.ts";
import { median, printTable, timed, writeResults } from "./support/report.ts";

/** Many idle sandboxes on one machine: what each one has for itself. Budget: 200 of them, 15 MB each. */
const COUNT = 200;
const AT_ONCE = 8;

await using server = await TestServer.start();
Object.assign(process.env, server.clientEnv());
const sandboxes: Sandbox[] = [];
const createMs = await timed(async () => {
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (sandboxes.length + AT_ONCE <= COUNT) sandboxes.push(await Sandbox.create({ timeout: "20m" }));
    }),
  );
  while (sandboxes.length < COUNT) sandboxes.push(await Sandbox.create({ timeout: "20m" }));
});
const agents = await privateBytes(/agent\.js/);
const servers = await privateBytes(/packages\/server\/src\/main\.ts\0serve/);
const rows = [
  ["sandboxes", String(sandboxes.length)],
  ["created in, seconds", (createMs / 1000).toFixed(1)],
  ["agent's private memory, median MB", (median(agents) / 1e6).toFixed(1)],
  ["server's private memory, MB", (Math.max(...servers) / 1e6).toFixed(1)],
] as const;
printTable("Idle sandboxes", ["figure", ""], rows);
await writeResults("idle", Object.fromEntries(rows));
const endMs = await timed(() => Promise.all(sandboxes.map((sandbox) => sandbox.kill())));
console.log(`all ended in ${(endMs / 1000).toFixed(1)} s`);

/** Memory that only this process has, of every process whose command line matches. */
async function privateBytes(command: RegExp): Promise<number[]> {
  const found: number[] = [];
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    if (!command.test(await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => ""))) continue;
    const text = await readFile(`/proc/${pid}/smaps_rollup`, "utf8").catch(() => "");
    const kibibytes = [...text.matchAll(/^Private_\w+:\s+(\d+) kB$/gm)].reduce(
      (sum, [, amount]) => sum + Number(amount),
      0,
    );
    if (kibibytes > 0) found.push(kibibytes * 1024);
  }
  return found;
}
