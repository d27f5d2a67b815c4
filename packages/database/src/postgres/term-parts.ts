/** The longest parts of slugs that the index has. */
const LONGEST_PART = 3;
/** Of all slugs: a part that more of them have hardly narrows a search, and the index would read the list of all of them. */
const COMMON_SHARE = 0.25;

/** The parts of a term that the index finds its slugs by: those that are not common in `sample`, a few of all slugs, or all where each is common. */
export function termParts(term: string, sample: readonly string[]): readonly string[] {
  const size = Math.min(LONGEST_PART, term.length);
  const parts = Array.from({ length: term.length - size + 1 }, (_, start) => term.slice(start, start + size));
  const isCommon = (part: string): boolean =>
    sample.filter((slug) => slug.includes(part)).length > COMMON_SHARE * sample.length;
  const telling = parts.filter((part) => !isCommon(part));
  return [...new Set(telling.length === 0 ? parts : telling)];
}
