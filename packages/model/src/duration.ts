import { CaissonError } from "./errors.ts";

const UNIT_MS = { s: 1_000, m: 60_000 } as const;

/** Reads `<n>s` or `<n>m`, whole and positive (protocol.md 5.3), as milliseconds. Throws `INVALID_CONFIG`. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,9})([sm])$/.exec(text);
  const durationMs = match === null ? 0 : Number(match[1]) * UNIT_MS[match[2] as "s" | "m"];
  if (durationMs > 0) return durationMs;
  throw new CaissonError(
    "INVALID_CONFIG",
    `Invalid duration ${JSON.stringify(text.slice(0, 32))}: give whole seconds or minutes above zero, for example "90s" or "5m"`,
  );
}

const PERIOD_UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
] as const;

/** The longest period of a schedule: 30 days. */
export const MAX_EVERY_MS = 30 * 86_400_000;

/** Reads how often something happens: a whole number above zero of seconds, minutes, hours or days, such as `5m` or `1d`, as milliseconds. Null: it is none. */
export function parsePeriod(text: string): number | null {
  const match = /^([1-9]\d{0,8})([smhd])$/.exec(text);
  const [, unitMs] = PERIOD_UNITS.find(([unit]) => unit === match?.[2]) ?? [];
  return match === null || unitMs === undefined ? null : Number(match[1]) * unitMs;
}

/** As `parsePeriod` reads it, in the largest unit that it is a whole number of. */
export function formatPeriod(periodMs: number): string {
  const [unit, unitMs] = PERIOD_UNITS.find(([, unitMs]) => periodMs % unitMs === 0) ?? ["s", 1_000];
  return `${periodMs / unitMs}${unit}`;
}
