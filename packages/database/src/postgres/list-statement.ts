import type { DiskQuery } from "../store.ts";
import type { Value } from "./database.ts";
import { labelWords } from "./label-words.ts";

/** Shorter terms have no whole trigram; the index has them as words. */
const TRIGRAM_LENGTH = 3;
/** So many of the newest disks of an owner are read for a label before its index is: 3 ms. */
const NEWEST_COUNT = 5_000;

/**
 * The statement of a list. Terms and labels of ready disks go through the table `disk_search`, which has an index for labels, one for the trigrams of slugs, and
 * one for shorter terms, each with the owner (organization and kind) in it. The
 * planner takes a label that it does not know for one of many, and would read the list backwards to its end for one that no disk has: so a page of a label comes from the newest disks, and where those have too few of it, from the
 * label's index, whatever the planner thinks. Deleted disks are few and gone after a day. A term has only characters of
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
  const page = value(limit);
  if (words.length === 0)
    return [
      `SELECT disks.* FROM disk_search JOIN disks USING (sequence) WHERE ${conditions.join(" AND ")} ORDER BY disk_search.sequence DESC LIMIT ${page}`,
      ...values,
    ];
  const older = beforeSequence === undefined ? "" : ` AND sequence < ${value(beforeSequence)}`;
  return [
    `WITH newest AS MATERIALIZED (
       SELECT sequence FROM (SELECT * FROM disk_search WHERE owner = ${value(owner)}${older} ORDER BY sequence DESC LIMIT ${NEWEST_COUNT}) AS disk_search
       WHERE ${conditions.join(" AND ")} ORDER BY sequence DESC LIMIT ${page}
     ), labelled AS MATERIALIZED (
       SELECT sequence FROM disk_search WHERE (SELECT count(*) FROM newest) < ${page} AND ${conditions.join(" AND ")}
     )
     SELECT disks.* FROM (SELECT sequence FROM newest UNION SELECT sequence FROM labelled ORDER BY sequence DESC LIMIT ${page}) AS found
     JOIN disks USING (sequence) ORDER BY sequence DESC`,
    ...values,
  ];
}
