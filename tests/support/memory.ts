import { readdir, readFile } from "node:fs/promises";
import type { TestServer } from "./server.ts";

/** Anonymous memory of a process in bytes: what it alone keeps, without files that it has mapped. */
export async function anonymousBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const match = /^RssAnon:\s*(\d+) kB$/m.exec(status);
  if (match === null) throw new Error(`Process ${pid} has no RssAnon`);
  return Number(match[1]) * 1024;
}

/** The server's own process, not those that made its namespaces. */
export async function serverPid(server: TestServer): Promise<number> {
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    const [program, ...args] = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
    if (program === process.execPath && args.includes(server.dataDirectory) && args.includes("serve"))
      return Number(pid);
  }
  throw new Error(`The server of ${server.dataDirectory} is not among the processes`);
}

/** Samples a number until it is disposed, and keeps the largest. */
export class Peak implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #sampling: Promise<void>;
  value = 0;

  constructor(sample: () => Promise<number>) {
    this.#sampling = (async () => {
      while (!this.#stop.signal.aborted) {
        this.value = Math.max(this.value, await sample());
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    })();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#sampling;
  }
}
