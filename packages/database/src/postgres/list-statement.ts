import type { DiskQuery } from "../store.ts";
import type { Value } from "./database.ts";
import { labelWords } from "./label-words.ts";

/** Shorter terms have no whole trigram; the index has them as words. */
const TRIGRAM_LENGTH = 3;

/**
 * The statement of a list. Terms and labels of ready disks go through the table `disk_search`, which has an index for labels, one for the trigrams of slugs, and
 * one for shorter terms, each with the owner (organization and kind) in it. Deleted disks are few and gone after a day. A term has only characters of
 * slugs, so none that LIKE takes for something else.
 */
export function listStatement(query: DiskQuery): [string, ...Value[]] {
  const { organizationId, kind, isDeleted, limit, beforeSequence, labels = {} } = query;
  const search = query.search?.toLowerCase() ?? "";
  const values: Value[] = [];
  const value = (given: Value): string => `$${values.push(given)}`;
  const words = labelWords(labels);
  if (isDeleted || (search === "" && words.length === 0)) {
    const conditions = [
      `organization_id = ${value(organizationId)}`,
      `kind = ${value(kind)}`,
      `state = ${value(isDeleted ? "deleted" : "ready")}`,
    ];
    if (beforeSequence !== undefined) conditions.push(`sequence < ${value(beforeSequence)}`);
    if (search !== "") conditions.push(`slug LIKE ${value(`%${search}%`)}`);
    if (words.length > 0) conditions.push(`label_words @> ${value(words)}`);
    return [
      `SELECT * FROM disks WHERE ${conditions.join(" AND ")} ORDER BY sequence DESC LIMIT ${value(limit)}`,
      ...values,
    ];
  }
  const owner = `${organizationId}:${kind}`;
  const conditions = [`disk_search.owner = ${value(owner)}`];
  if (words.length > 0) conditions.push(`disk_search.label_words @> ${value(words.map((word) => `${owner} ${word}`))}`);
  if (search.length >= TRIGRAM_LENGTH) conditions.push(`ARRAY[disk_search.owner] @> ${value([owner])}`);
  else if (search !== "")
    conditions.push(`disk_short_words(disk_search.owner, disk_search.slug) @> ${value([`${owner} ${search}`])}`);
  if (beforeSequence !== undefined) conditions.push(`disk_search.sequence < ${value(beforeSequence)}`);
  if (search !== "") conditions.push(`disk_search.slug LIKE ${value(`%${search}%`)}`);
  return [
    `SELECT disks.* FROM disk_search JOIN disks USING (sequence) WHERE ${conditions.join(" AND ")}
     ORDER BY disk_search.sequence DESC LIMIT ${value(limit)}`,
    ...values,
  ];
}
