import { CaissonError, formatPeriod, MAX_EVERY_MS, parsePeriod } from "@caisson/model";
import type { AppContext } from "../context.ts";

/** How often a volume is to be snapshotted, in milliseconds; null: never. Throws `INVALID_REQUEST` outside the limits. */
export function requireEvery({ config }: Pick<AppContext, "config">, every: string | null): number | null {
  if (every === null) return null;
  const { minEveryMs } = config.volumes;
  const everyMs = parsePeriod(every);
  if (everyMs !== null && everyMs >= minEveryMs && everyMs <= MAX_EVERY_MS) return everyMs;
  throw new CaissonError(
    "INVALID_REQUEST",
    `A volume cannot have a snapshot every ${JSON.stringify(every.slice(0, 32))}: give a whole number of seconds, minutes, hours or days, ` +
      `from ${formatPeriod(minEveryMs)} to ${formatPeriod(MAX_EVERY_MS)}, for example "5m"`,
  );
}
