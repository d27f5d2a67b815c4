import { readdir, readFile } from "node:fs/promises";

/** Anonymous memory of a process in bytes: what it alone keeps, without files that it has mapped. */
export async function anonymousBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const match = /^RssAnon:\s*(\d+) kB$/m.exec(status);
  if (match === null) throw new Error(`Process ${pid} has no RssAnon`);
  return Number(match[1]) * 1024;
}

/** The one process whose arguments contain all of `texts`, as this process numbers it. */
export async function findProcess(...texts: readonly string[]): Promise<number> {
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    const args = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
    if (texts.every((text) => args.includes(text))) return Number(pid);
  }
  throw new Error(`There is no process with the arguments ${texts.join(" ")}`);
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
