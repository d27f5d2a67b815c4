import type { DiskQuery } from "../store.ts";
import type { Value } from "./database.ts";
import { labelWords } from "./label-words.ts";
import { termParts } from "./term-parts.ts";

/** So many of the newest disks of an owner are read for a term or a label before its index is: 3 ms. */
const NEWEST_COUNT = 5_000;

/** About a hundred slugs that stand for all, which the database keeps since it last analysed the table. */
export const SAMPLE_SQL = `SELECT coalesce(most_common_vals::text::text[], '{}') || coalesce(histogram_bounds::text::text[], '{}') AS slugs
  FROM pg_stats WHERE schemaname = current_schema() AND tablename = 'disk_search' AND attname = 'slug'`;

/**
 * The statement of a list; for a term with a sample of slugs, which may be empty. Terms and labels of ready disks go through the table `disk_search`, which
 * has an index for labels and one for the parts of slugs, each with the owner (organization and kind) in it. The planner knows how many disks match and not where
 * they are, and would read the list backwards to its end for what only old disks have: so a page comes from the newest disks, and where those have too few that match,
 * from the index, whatever the planner thinks. A term that no slug of the sample has is looked for in the index at once. Deleted disks are few and gone after a day.
 * A term has only characters of slugs, so none that LIKE takes for something else.
 */
export function listStatement(query: DiskQuery, sample: readonly string[]): [string, ...Value[]] {
  const { organizationId, kind, isDeleted, limit, beforeSequence, labels = {} } = query;
  const search = query.search?.toLowerCase() ?? "";
  const words = labelWords(labels);
  const values: Value[] = [];
  const value = (given: Value): string => `$${values.push(given)}`;
  const page = `ORDER BY sequence DESC LIMIT ${value(limit)}`;
  const listed = beforeSequence === undefined ? [] : [`sequence < ${value(beforeSequence)}`];
  const matching = search === "" ? [] : [`slug LIKE ${value(`%${search}%`)}`];
  if (isDeleted || (search === "" && words.length === 0)) {
    listed.push(`organization_id = ${value(organizationId)}`, `kind = ${value(kind)}`);
    listed.push(`state = ${value(isDeleted ? "deleted" : "ready")}`);
    if (words.length > 0) matching.push(`label_words @> ${value(words)}`);
    return [`SELECT * FROM disks WHERE ${[...listed, ...matching].join(" AND ")} ${page}`, ...values];
  }
  const owner = `${organizationId}:${kind}`;
  const owned = (word: string): string => `${owner} ${word}`;
  listed.push(`owner = ${value(owner)}`);
  if (words.length > 0) matching.push(`label_words @> ${value(words.map(owned))}`);
  const found = [...listed, ...matching];
  if (search !== "") found.push(`disk_words(owner, slug) @> ${value(termParts(search, sample).map(owned))}`);
  const isRare = search !== "" && sample.length > 0 && !sample.some((slug) => slug.includes(search));
  const inNewest = isRare ? "false" : matching.join(" AND ");
  const newest = `SELECT * FROM disk_search WHERE ${listed.join(" AND ")} ORDER BY sequence DESC LIMIT ${NEWEST_COUNT}`;
  return [
    `WITH newest AS MATERIALIZED (
       SELECT sequence FROM (${newest}) AS disk_search WHERE ${inNewest} ${page}
     ), indexed AS MATERIALIZED (
       SELECT sequence FROM disk_search WHERE (SELECT count(*) FROM newest) < ${value(limit)} AND ${found.join(" AND ")}
     )
     SELECT disks.* FROM (SELECT sequence FROM newest UNION SELECT sequence FROM indexed ${page}) AS page
     JOIN disks USING (sequence) ORDER BY sequence DESC`,
    ...values,
  ];
}
