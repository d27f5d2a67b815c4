import type { DiskQuery } from "../store.ts";

/** Letters of the words in the index's column `slug`. */
const WORD_LENGTH = 3;

/**
 * The expression that finds the disks of a query in the table `disk_search` (migration 0002), or `null` for a query without a term and
 * labels. Slugs are matched exactly. Labels are compared as one text of key and value, which different labels may share ("a=b" and "c",
 * "a" and "b=c"), so they need a second look.
 */
export function searchExpression({ organizationId, kind, search = "", labels = {} }: DiskQuery): string | null {
  const parts = Object.entries(labels).map(
    ([key, value]) => `labels : "${Buffer.from(`${key}=${value}`).toString("hex")}"`,
  );
  if (search !== "") parts.push(slugExpression(search.toLowerCase()));
  if (parts.length === 0) return null;
  return [`owner : "${organizationId}:${kind}"`, ...parts].join(" AND ");
}

function slugExpression(term: string): string {
  if (term.length < WORD_LENGTH) return `short : "${term}"`;
  const words = Array.from({ length: term.length - WORD_LENGTH + 1 }, (_, start) =>
    term.slice(start, start + WORD_LENGTH),
  );
  return `slug : "${words.join(" ")}"`;
}
