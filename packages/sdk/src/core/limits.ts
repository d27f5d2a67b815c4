import { parseDuration, parseSize } from "@caisson/model";
import { InvalidMemoryError, InvalidTimeoutError } from "./errors.ts";

/** A size as text: a number and a unit, decimal (1000) or binary (1024). */
export type SizeText = `${number}GB` | `${number}MB` | `${number}kB` | `${number}GiB` | `${number}MiB` | `${number}KiB`;

/** Memory of a sandbox: bytes, or a text such as `"1GiB"`. */
export type Memory = number | SizeText;

/** A duration: whole seconds or minutes above zero. */
export type Duration = `${number}s` | `${number}m`;

const MEBIBYTE = 2 ** 20;
const MEMORY_LIMITS_MIB = { min: 768, max: 4096 } as const;

/** Reads a memory size as whole MiB. Throws {@linkcode InvalidMemoryError}. */
export function parseMemoryMib(memory: Memory): number {
  let mib: number;
  try {
    mib = Math.floor(parseSize(memory) / MEBIBYTE);
  } catch {
    throw new InvalidMemoryError(
      `Invalid memory ${JSON.stringify(memory)}: give bytes, or a number with GiB, MiB, KiB, GB, MB or kB, for example "1GiB"`,
    );
  }
  const { min, max } = MEMORY_LIMITS_MIB;
  if (mib >= min && mib <= max) return mib;
  throw new InvalidMemoryError(`Memory of ${mib} MiB is out of range: choose ${min} MiB to ${max} MiB`);
}

/** Reads a duration as milliseconds. Throws {@linkcode InvalidTimeoutError}. */
export function parseDurationMs(duration: string): number {
  try {
    return parseDuration(duration);
  } catch {
    throw new InvalidTimeoutError(
      `Invalid timeout ${JSON.stringify(duration)}: give whole seconds or minutes above zero, for example "90s" or "5m"`,
    );
  }
}
