import { CaissonError } from "./errors.ts";

const UNITS: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
};

/**
 * Reads a size: integer bytes, as a number or in digits, or a number with a unit, decimal (`kB`, `MB`, `GB`) or binary (`KiB`, `MiB`, `GiB`), any case.
 * Fractions of a byte are rounded down (protocol.md 2.2). Throws `INVALID_CAPACITY`.
 */
export function parseSize(value: string | number): number {
  if (typeof value === "number") {
    if (Number.isSafeInteger(value) && value >= 0) return value;
    throw invalidSize(String(value));
  }
  if (/^\s*\d+\s*$/.test(value)) return parseSize(Number(value));
  const match = /^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*$/.exec(value);
  const unit = UNITS[match?.[2]?.toLowerCase() ?? ""];
  const bytes = match === null || unit === undefined ? Number.NaN : Math.floor(Number(match[1]) * unit + 1e-6);
  if (Number.isSafeInteger(bytes)) return bytes;
  throw invalidSize(JSON.stringify(value.slice(0, 64)));
}

/** Prints a size in binary units with up to two decimals, as the documentation does: `1.5 GiB`, `217.05 MiB`, `12 B`. */
export function formatSize(bytes: number): string {
  for (const [unit, factor] of [
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ] as const) {
    if (bytes >= factor) return `${Number((bytes / factor).toFixed(2))} ${unit}`;
  }
  return `${bytes} B`;
}

function invalidSize(shown: string): CaissonError {
  return new CaissonError(
    "INVALID_CAPACITY",
    `Invalid size ${shown}: give whole bytes, or a number with kB, MB, GB, KiB, MiB or GiB, for example "10GB"`,
  );
}
