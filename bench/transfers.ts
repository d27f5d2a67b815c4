import { Client as OwnClient } from "@caisson/sdk";
import { Sandbox as OfficialSandbox } from "@deno/sandbox";
import { TestServer } from "../tests/support/server.ts";
import { median, printTable, timed, writeResults } from "./support/report.ts";
import {
  findAgent,
  findProcess,
  probedEnv,
  processorSeconds,
  SERVER_COMMAND,
  takeLongestBlock,
} from "./support/server-probe.ts";

/**
 * A gigabyte out of a sandbox and into it, through the official JavaScript client and ours, with the processor time of each process on the way; and
 * the longest block of the server's event loop meanwhile and during 20 creates at once. Run it with: scripts/isolate.sh node bench/transfers.ts
 */
const ROUNDS = Number(process.env.ROUNDS ?? 3);
const GIGABYTE = 1e9;
const CHUNK = new Uint8Array(64 * 1024).fill(120);
const PARALLEL = 20;

/** What both clients have alike. */
interface TransferSandbox {
  readonly id: string;
  spawn(command: string, options: object): Promise<TransferProcess>;
}
interface TransferProcess {
  readonly stdout: ReadableStream<Uint8Array> | null;
  readonly stdin: WritableStream<Uint8Array> | null;
  readonly status: Promise<{ readonly success: boolean }>;
}

await using server = await TestServer.start({ env: probedEnv });
Object.assign(process.env, server.clientEnv());
const rates = new Map<string, number[]>();
const processorTimes = new Map<string, number[][]>();
const blocks = new Map<string, number[]>();
const add = <T>(map: Map<string, T[]>, name: string, value: T) => map.set(name, [...(map.get(name) ?? []), value]);

async function measure(name: string, agentPid: number, work: () => Promise<void>): Promise<void> {
  const serverPid = await findProcess(SERVER_COMMAND);
  const read = async () => [
    process.cpuUsage().user / 1e6 + process.cpuUsage().system / 1e6,
    await processorSeconds(serverPid),
    await processorSeconds(agentPid),
  ];
  await takeLongestBlock(server);
  const before = await read();
  const durationMs = await timed(work);
  const after = await read();
  add(rates, name, GIGABYTE / 1e6 / (durationMs / 1000));
  add(
    processorTimes,
    name,
    after.map((value, index) => value - (before[index] ?? 0)),
  );
  add(blocks, name, (await takeLongestBlock(server)).longestBlockMs);
}

async function readOut(sandbox: TransferSandbox): Promise<void> {
  const options = { args: ["-c", String(GIGABYTE), "/dev/zero"], stdout: "piped", stderr: "null" };
  const child = await sandbox.spawn("head", options);
  let bytes = 0;
  for await (const chunk of child.stdout ?? []) bytes += chunk.length;
  if (bytes !== GIGABYTE) throw new Error(`${bytes} bytes arrived`);
}

/** Source of a gigabyte in chunks of 64 KiB, as a file's stream has them. */
function gigabyte(): ReadableStream<Uint8Array<ArrayBuffer>> {
  let left = GIGABYTE;
  return new ReadableStream({
    pull(controller) {
      const length = Math.min(left, CHUNK.length);
      left -= length;
      if (length === 0) controller.close();
      else controller.enqueue(CHUNK.slice(0, length));
    },
  });
}

async function writeIn(sandbox: TransferSandbox): Promise<void> {
  const child = await sandbox.spawn("sh", {
    args: ["-c", `test "$(wc -c)" = ${GIGABYTE}`],
    stdin: "piped",
    stdout: "null",
    stderr: "null",
  });
  if (child.stdin === null) throw new Error("There is no input");
  await gigabyte().pipeTo(child.stdin);
  if (!(await child.status).success) throw new Error("Not everything arrived");
}

const official = async () => {
  const sandbox = await OfficialSandbox.create();
  return { sandbox: sandbox as unknown as TransferSandbox, end: () => sandbox.kill() };
};
const own = async () => {
  const sandbox = await new OwnClient().sandboxes.create();
  return { sandbox: sandbox as unknown as TransferSandbox, end: () => sandbox.kill() };
};
for (let round = 0; round < ROUNDS; round += 1) {
  for (const [client, open] of [
    ["official client", official],
    ["our client", own],
  ] as const) {
    const { sandbox, end } = await open();
    const agentPid = await findAgent(sandbox);
    await measure(`out, ${client}`, agentPid, () => readOut(sandbox));
    await measure(`in, ${client}`, agentPid, () => writeIn(sandbox));
    await end();
  }
  await takeLongestBlock(server);
  const sandboxes = await Promise.all(Array.from({ length: PARALLEL }, () => OfficialSandbox.create()));
  add(blocks, `${PARALLEL} creates at once`, (await takeLongestBlock(server)).longestBlockMs);
  await Promise.all(sandboxes.map((sandbox) => sandbox.kill()));
  add(blocks, `${PARALLEL} ends at once`, (await takeLongestBlock(server)).longestBlockMs);
}
const names = [...rates.keys()];
const timeOf = (name: string, index: number) => median((processorTimes.get(name) ?? []).map((all) => all[index] ?? 0));
printTable(
  `1 GB, medians of ${ROUNDS}: MB/s, and processor seconds of client, server and agent`,
  ["way", "MB/s", "client", "server", "agent"],
  names.map((name) => [
    name,
    median(rates.get(name) ?? []),
    ...[0, 1, 2].map((index) => timeOf(name, index).toFixed(2)),
  ]),
);
printTable(
  "Longest block of the server's event loop, worst of all rounds",
  ["during", "ms"],
  [...blocks].map(([name, values]) => [name, Math.max(...values)]),
);
await writeResults("transfers", {
  rounds: ROUNDS,
  megabytesPerSecond: Object.fromEntries(names.map((name) => [name, median(rates.get(name) ?? [])])),
  processorSeconds: Object.fromEntries(
    names.map((name) => [name, { client: timeOf(name, 0), server: timeOf(name, 1), agent: timeOf(name, 2) }]),
  ),
  longestBlockMs: Object.fromEntries([...blocks].map(([name, values]) => [name, Math.max(...values)])),
});
