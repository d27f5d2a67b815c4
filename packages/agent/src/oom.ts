import type { ExitStatus } from "./process-table.ts";

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

/** Where the sandbox's own cgroup shows inside it: version 2, then version 1. */
const MEMORY_FILES: readonly MemoryFiles[] = [
  {
    events: "/sys/fs/cgroup/memory.events",
    usage: "/sys/fs/cgroup/memory.current",
    limit: "/sys/fs/cgroup/memory.max",
  },
  {
    events: "/sys/fs/cgroup/memory/memory.oom_control",
    usage: "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    limit: "/sys/fs/cgroup/memory/memory.limit_in_bytes",
  },
];

/**
 * Tells whether the kernel ended a process because the sandbox was out of memory (protocol.md 9.B 24). The kernel counts such kills per
 * sandbox: a process that ended with 137 while the count rose, and no earlier ended process explains the rise, was its victim or
 * waited for it.
 */
export class OomDetector {
  readonly #files: MemoryFiles | undefined;
  /** Kills that an ended process has explained already. */
  #explained: number;

  constructor(candidates: readonly MemoryFiles[] = MEMORY_FILES) {
    this.#files = candidates.find(({ events }) => readKills(events) !== null);
    this.#explained = this.kills();
  }

  /** Kills in this sandbox so far; zero when the kernel does not show them. */
  kills(): number {
    return this.#files === undefined ? 0 : (readKills(this.#files.events) ?? 0);
  }

  /** What `oom` of an ended process says. `killsAtStart`: the count when it started. */
  judge(code: number, killsAtStart: number): ExitStatus["oom"] {
    if (code !== KILLED_CODE) return null;
    const kills = this.kills();
    if (kills > Math.max(this.#explained, killsAtStart)) {
      this.#explained = Math.max(this.#explained, killsAtStart) + 1;
      return "high-confidence";
    }
    return this.#isUnderPressure() ? "low-confidence" : null;
  }

  #isUnderPressure(): boolean {
    if (this.#files === undefined) return false;
    const usage = readNumber(this.#files.usage);
    const limit = readNumber(this.#files.limit);
    return usage !== null && limit !== null && usage >= limit * PRESSURE;
  }
}

function readKills(path: string): number | null {
  const match = /^oom_kill (\d+)$/m.exec(readText(path) ?? "");
  return match === null ? null : Number(match[1]);
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
    // Absent where the host does not show this version of cgroups; the caller tries the other.
    return null;
  }
}
