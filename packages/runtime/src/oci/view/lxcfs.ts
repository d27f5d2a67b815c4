import { type ChildProcess, spawn } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { readMounts, unmount } from "@caisson/linux";

/** What lxcfs shows by the limits of the reader's cgroup: memory, swap, processors, load, and time since the start of the first process. */
const FILES: readonly string[] = [
  "/proc/cpuinfo",
  "/proc/loadavg",
  "/proc/meminfo",
  "/proc/stat",
  "/proc/swaps",
  "/proc/uptime",
  "/sys/devices/system/cpu/online",
];
export const LXCFS_TYPE = "fuse.lxcfs";

const START_DEADLINE_MS = 10_000;
const POLL_MS = 5;
const RESTART_MS = 2_000;
const ERROR_CHARACTERS_MAX = 1000;

export interface LxcfsOptions {
  /** Default: `lxcfs`, as found on the PATH. */
  readonly program?: string;
  /** Where its file system is mounted. */
  readonly directory: string;
  readonly pidPath: string;
  /** Called when it has died, so that what shows its files is taken away; reading them would fail. */
  readonly onDied: () => Promise<void>;
  /** Told of what went wrong: sandboxes show the host's numbers then. */
  readonly onFailure: (error: unknown) => void;
}

/**
 * The lxcfs of one server, which is started again when it dies. While there is none, `files` is empty and new sandboxes show the kernel's own
 * files. One that hangs is not noticed: what reads its files waits until somebody kills it.
 */
export class Lxcfs implements AsyncDisposable {
  readonly #options: LxcfsOptions;
  readonly #closing = new AbortController();
  #running: Promise<void>;
  #files: Readonly<Record<string, string>> = {};

  private constructor(options: LxcfsOptions) {
    this.#options = options;
    this.#running = Promise.resolve();
  }

  /** Resolves when its files can be read, or when it has failed, for example because it is not installed. */
  static async open(options: LxcfsOptions): Promise<Lxcfs> {
    const lxcfs = new Lxcfs(options);
    // Left by a server that was killed.
    await unmount(options.directory, { isLazy: true });
    await mkdir(options.directory, { recursive: true, mode: 0o711 });
    await lxcfs.#start();
    return lxcfs;
  }

  /** Files of the host to be shown inside, by their path inside. */
  get files(): Readonly<Record<string, string>> {
    return this.#files;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    let running: Promise<void>;
    do {
      running = this.#running;
      await running;
    } while (running !== this.#running);
  }

  /** Starts it and lets it be watched. Never rejects. */
  async #start(): Promise<void> {
    const { program = "lxcfs", directory, pidPath, onFailure } = this.#options;
    try {
      const child = spawn("setpriv", [
        ...["--pdeathsig", "KILL", "--", program, "--foreground", "--enable-cfs", "--enable-loadavg"],
        ...["--pidfile", pidPath, directory],
      ]);
      const ended = endOf(child);
      try {
        await untilMounted(directory, ended);
      } catch (error) {
        child.kill("SIGKILL");
        await ended;
        throw error;
      }
      this.#files = Object.fromEntries(FILES.map((path) => [path, join(directory, path)]));
      this.#running = this.#watch(child, ended).catch(onFailure);
    } catch (error) {
      onFailure(error);
    }
  }

  async #watch(child: ChildProcess, ended: Promise<string>): Promise<void> {
    const { directory, onDied, onFailure } = this.#options;
    const { signal } = this.#closing;
    const stop = (): void => void child.kill("SIGKILL");
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    const reason = await ended;
    signal.removeEventListener("abort", stop);
    this.#files = {};
    await unmount(directory, { isLazy: true });
    if (signal.aborted) return;
    onFailure(new Error(`lxcfs ended${reason === "" ? "" : `: ${reason}`}`));
    await onDied().catch(onFailure);
    await delay(RESTART_MS, undefined, { signal }).catch(() => undefined);
    if (!signal.aborted) await this.#start();
  }
}

/** Resolves with the last words of the process. */
async function endOf(child: ChildProcess): Promise<string> {
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (part: string) => {
      text = (text + part).slice(-ERROR_CHARACTERS_MAX);
    });
  }
  return new Promise((resolve) => {
    child.once("close", () => resolve(text.trim()));
    child.once("error", (error) => resolve(error.message));
  });
}

async function untilMounted(directory: string, ended: Promise<string>): Promise<void> {
  const deadline = Date.now() + START_DEADLINE_MS;
  let reason: string | null = null;
  void ended.then((text) => {
    reason = text;
  });
  for (;;) {
    if (reason !== null) throw new Error(`Cannot start lxcfs: ${reason}`);
    if ((await readMounts()).some(({ target, type }) => target === directory && type === LXCFS_TYPE)) return;
    if (Date.now() > deadline) throw new Error("Cannot start lxcfs: it has mounted nothing");
    await delay(POLL_MS);
  }
}
