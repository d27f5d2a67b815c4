import { CaissonError } from "@caisson/model";

export const PAGE_LIMITS = { min: 1, max: 100, default: 30 } as const;

type Query = Readonly<Record<string, unknown>>;

export interface Page {
  readonly limit: number;
  readonly beforeSequence?: number;
}

/**
 * Reads `limit` (clamped, 9.B 16) and `cursor`. The Python client sends the whole URL of the next page as the cursor, beside an older one: the last
 * occurrence counts, and of a URL its own cursor (protocol.md 2.1). Throws `INVALID_CURSOR`.
 */
export function parsePage(query: Query): Page {
  const limit = Number(lastValue(query.limit) ?? PAGE_LIMITS.default);
  const page = {
    limit: Number.isFinite(limit)
      ? Math.trunc(Math.min(Math.max(limit, PAGE_LIMITS.min), PAGE_LIMITS.max))
      : PAGE_LIMITS.default,
  };
  const text = lastValue(query.cursor);
  if (text === undefined || text === "") return page;
  const cursor = URL.canParse(text) ? (new URL(text).searchParams.getAll("cursor").at(-1) ?? "") : text;
  const sequence = /^[0-9a-z]{1,11}$/.test(cursor) ? Number.parseInt(cursor, 36) : Number.NaN;
  if (Number.isSafeInteger(sequence)) return { ...page, beforeSequence: sequence };
  throw new CaissonError(
    "INVALID_CURSOR",
    `Invalid cursor ${JSON.stringify(text.slice(0, 64))}: use the one of the "next" link`,
  );
}

/** The `Link` header of a page that has a next one: absolute, and without commas and semicolons, on which clients split. */
export function nextLink(origin: string, path: string, query: Query, lastSequence: number, limit: number): string {
  const url = new URL(path, origin);
  for (const [key, value] of Object.entries(query)) {
    const text = lastValue(value);
    if (text !== undefined && key !== "cursor" && key !== "limit") url.searchParams.set(key, text);
  }
  url.searchParams.set("cursor", lastSequence.toString(36));
  url.searchParams.set("limit", String(limit));
  return `<${url.href}>; rel="next"`;
}

/** The last of repeated query parameters. */
export function lastValue(value: unknown): string | undefined {
  const last: unknown = Array.isArray(value) ? value.at(-1) : value;
  return typeof last === "string" ? last : undefined;
}
