import { readdir, readFile, stat } from "node:fs/promises";
import { eventually } from "../../tests/support/eventually.ts";
import type { TestServer } from "../../tests/support/server.ts";

/**
 * Runs inside the server, in front of its own program: at SIGUSR2 it writes the longest block of the event loop since the last one to standard error.
 * A timer each millisecond, where the server's own figure has one each ten.
 */
const PROBE = `
import { monitorEventLoopDelay } from "node:perf_hooks";
import { isMainThread } from "node:worker_threads";
if (isMainThread && process.argv[2] === "serve") {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  process.on("SIGUSR2", () => {
    process.stderr.write(JSON.stringify({ longestBlockMs: Math.max(0, delay.max / 1e6 - 1), p99Ms: delay.percentile(99) / 1e6 - 1 }) + "\\n");
    delay.reset();
  });
}`;

/** Environment for a server whose event loop is looked at. */
export const probedEnv = {
  NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(PROBE)}`,
} as const;

export interface Block {
  readonly longestBlockMs: number;
  readonly p99Ms: number;
}

/** The longest block of the server's event loop since the last call. */
export async function takeLongestBlock(server: TestServer): Promise<Block> {
  const before = blocksOf(server).length;
  process.kill(await findProcess(SERVER_COMMAND), "SIGUSR2");
  return eventually("the server's figure", () => blocksOf(server)[before]);
}

function blocksOf(server: TestServer): readonly Block[] {
  return server
    .logText()
    .split("\n")
    .filter((line) => line.includes('"longestBlockMs"'))
    .map((line) => JSON.parse(line) as Block);
}

/** Command lines, with NUL between the words, of the server and of the agent in a sandbox, without what only starts them. */
export const SERVER_COMMAND = /^[^\0]*node\0[^\0]*packages\/server\/src\/main\.ts\0serve\0/;
export const AGENT_COMMAND = /^[^\0]*ld-linux[^\0]*\0.*agent\.js\0$/;

/** Id of the one process whose command line matches, of those that belong to a user of the host, if one is named. */
export async function findProcess(command: RegExp, userId?: number): Promise<number> {
  for (const name of await readdir("/proc")) {
    // Processes come and go.
    if (!/^\d+$/.test(name) || !command.test(await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => ""))) continue;
    const owner = await stat(`/proc/${name}`).catch(() => null);
    if (owner !== null && (userId === undefined || owner.uid === userId)) return Number(name);
  }
  throw new Error(`There is no process ${command}${userId === undefined ? "" : ` of user ${userId}`}`);
}

/** Whatever runs commands in a sandbox. */
interface CommandRunner {
  spawn(command: string, options: object): Promise<{ readonly stdout: ReadableStream<Uint8Array> | null }>;
}

/** Id of the agent of this sandbox. Others wait for sandboxes to come; by the ids of the host that its own stand for, they can be told apart. */
export async function findAgent(sandbox: CommandRunner): Promise<number> {
  const child = await sandbox.spawn("cat", { args: ["/proc/self/uid_map"], stdout: "piped", stderr: "null" });
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of child.stdout ?? []) text += decoder.decode(chunk, { stream: true });
  const rootId = Number(/^\s*0\s+(\d+)/.exec(text)?.[1] ?? Number.NaN);
  if (Number.isNaN(rootId)) throw new Error(`The sandbox's ids are not known: ${text}`);
  return findProcess(AGENT_COMMAND, rootId);
}

/** Processor time of a process so far, all its threads together, in seconds. */
export async function processorSeconds(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  // Fields 14 and 15 of proc(5), in ticks of 10 ms.
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
