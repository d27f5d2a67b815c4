import { formatSize } from "@caisson/model";

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** A moment in UTC with hundredths of a second: `2026-01-30 18:33:40.79`. */
export function formatTime(time: Date): string {
  return time.toISOString().replace("T", " ").slice(0, 22);
}

/** A span of time in the two largest units that matter: `26.9s`, `3m 12s`, `2h 5m`, `4d 7h`. */
export function formatSpan(spanMs: number): string {
  const ms = Math.max(0, spanMs);
  if (ms < 59_950) return `${(ms / SECOND_MS).toFixed(1)}s`;
  const seconds = Math.round(ms / SECOND_MS) * SECOND_MS;
  if (seconds < HOUR_MS) return `${Math.floor(seconds / MINUTE_MS)}m ${(seconds % MINUTE_MS) / SECOND_MS}s`;
  const minutes = Math.floor(seconds / MINUTE_MS) * MINUTE_MS;
  if (minutes < DAY_MS) return `${Math.floor(minutes / HOUR_MS)}h ${(minutes % HOUR_MS) / MINUTE_MS}m`;
  return `${Math.floor(minutes / DAY_MS)}d ${Math.floor((minutes % DAY_MS) / HOUR_MS)}h`;
}

/** The duration of a step: `0.4 ms`, `12 ms`, `1.24 s`. */
export function formatDuration(durationMs: number): string {
  if (durationMs < 10) return `${durationMs.toFixed(1)} ms`;
  return durationMs < SECOND_MS ? `${Math.round(durationMs)} ms` : `${(durationMs / SECOND_MS).toFixed(2)} s`;
}

export function formatBoolean(value: boolean): string {
  return value ? "TRUE" : "FALSE";
}

/** What deleting a volume or snapshot would free. */
export function formatExclusive({ exclusive }: { readonly exclusive: number | null }): string {
  return exclusive === null ? "-" : formatSize(exclusive);
}

/** When the sizes were measured, in UTC, and how long ago that was. */
export function formatMeasured({ usageMeasuredAt }: { readonly usageMeasuredAt: Date | null }): string {
  if (usageMeasuredAt === null) return "not yet";
  return `${formatTime(usageMeasuredAt)}, ${formatSpan(Date.now() - usageMeasuredAt.getTime())} ago`;
}

/** `11 of 97664 in use`. */
export function formatInodes(counts: { readonly inodes: number | null; readonly usedInodes: number | null }): string {
  return counts.inodes === null ? "-" : `${counts.usedInodes} of ${counts.inodes} in use`;
}

/** `1 file`, `2 files`. */
export function formatCount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
