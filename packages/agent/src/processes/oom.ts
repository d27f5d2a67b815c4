import type { ProcessStatus } from "@caisson/protocol/rpc-methods";

/** 128 and SIGKILL: what a process, or the shell that waited for it, ends with after an out-of-memory kill. */
const KILLED_CODE = 137;
/** Share of the limit above which memory counts as under pressure. */
const PRESSURE = 0.95;

interface MemoryFiles {
  /** Has a line `oom_kill <count>`. */
  readonly events: string;
  readonly usage: string;
  readonly limit: string;
}

/** Where the sandbox's own cgroup shows inside it, by version of cgroups. */
const VERSION_1: MemoryFiles = {
  events: "/sys/fs/cgroup/memory/memory.oom_control",
  usage: "/sys/fs/cgroup/memory/memory.usage_in_bytes",
  limit: "/sys/fs/cgroup/memory/memory.limit_in_bytes",
};
const VERSION_2: MemoryFiles = {
  events: "/sys/fs/cgroup/memory.events",
  usage: "/sys/fs/cgroup/memory.current",
  limit: "/sys/fs/cgroup/memory.max",
};

/**
 * Tells whether the kernel ended a process because the sandbox was out of memory (protocol.md 9.B 24). The kernel counts such kills per
 * sandbox: a process that ended with 137 while the count rose, and no earlier ended process explains the rise, was its victim or
 * waited for it.
 */
export class OomDetector {
  readonly #files: MemoryFiles;
  /** Kills that an ended process has explained already. */
  #explained = 0;

  /** `files` defaults to those of the version of cgroups that rules memory here. */
  constructor(files?: MemoryFiles) {
    this.#files = files ?? (/^\d+:[^:]*\bmemory\b/m.test(readText("/proc/self/cgroup") ?? "") ? VERSION_1 : VERSION_2);
  }

  /** Kills in this sandbox so far; zero when the host does not show them. */
  kills(): number {
    const match = /^oom_kill (\d+)$/m.exec(readText(this.#files.events) ?? "");
    return match === null ? 0 : Number(match[1]);
  }

  /** The memory that the sandbox may use; null when the host does not show it, or sets no limit. */
  limitBytes(): number | null {
    return readNumber(this.#files.limit);
  }

  /** What `oom` of an ended process says. `killsAtStart`: the count when it started. */
  judge(code: number, killsAtStart: number): ProcessStatus["oom"] {
    if (code !== KILLED_CODE) return null;
    const kills = this.kills();
    if (kills > Math.max(this.#explained, killsAtStart)) {
      this.#explained = Math.max(this.#explained, killsAtStart) + 1;
      return "high-confidence";
    }
    return this.#isUnderPressure() ? "low-confidence" : null;
  }

  #isUnderPressure(): boolean {
    const usage = readNumber(this.#files.usage);
    const limit = readNumber(this.#files.limit);
    return usage !== null && limit !== null && usage >= limit * PRESSURE;
  }
}

/** Null for `max`, which is no limit. */
function readNumber(path: string): number | null {
  const text = readText(path)?.trim() ?? "";
  return /^\d+$/.test(text) ? Number(text) : null;
}

function readText(path: string): string | null {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    // Not shown by the host: then nothing is known about memory.
    return null;
  }
}
