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
