import type { Labels } from "@caisson/model";

/** Each label as one word that no other label has: the JSON of its key and value, which also hides characters that PostgreSQL cannot hold. */
export function labelWords(labels: Labels): readonly string[] {
  return Object.entries(labels).map((label) => JSON.stringify(label));
}
