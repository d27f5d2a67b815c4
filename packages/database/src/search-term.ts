/** Slugs have no other characters, so a term with one matches nothing. */
const SLUG_CHARACTERS = /^[a-z0-9-]*$/;

/** Whether any slug can contain the term. */
export function isSearchable(term: string): boolean {
  return SLUG_CHARACTERS.test(term.toLowerCase());
}
