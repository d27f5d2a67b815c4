import { parseDuration } from "@caisson/model";
import { formatTime } from "./output/format.ts";
import type { Output } from "./output/output.ts";

/** Requests take their time, and clocks differ: a difference below this is none. */
const TOLERANCE_MS = 5_000;

/** Says that a sandbox ends before the time that was asked for is over. */
export function warnShortened(output: Output, stopAt: Date, timeout: string): void {
  const end = `${formatTime(stopAt)} UTC`;
  output.warn(
    `${timeout} is more than the server allows: the sandbox ends at ${end}. To let it live on in time: caisson extend`,
  );
}

/** The same, if it is so, for one that was given the time from `startMs` on. */
export function warnIfShorter(output: Output, startMs: number, stopAt: Date, timeout: string): void {
  if (stopAt.getTime() - startMs < parseDuration(timeout) - TOLERANCE_MS) warnShortened(output, stopAt, timeout);
}
