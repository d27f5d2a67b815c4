import { CaissonError } from "./errors.ts";

const SLUG_PATTERN = /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])$/;

/** True when the text is a slug by protocol.md 2.2: 2–32 of `a-z 0-9 -`, no hyphen at either end, not `--` at 3 and 4. */
export function isSlug(text: string): boolean {
  return SLUG_PATTERN.test(text) && text.slice(2, 4) !== "--";
}

/** Returns the slug unchanged. Throws `INVALID_SLUG` with the rule when it is not one. */
export function requireSlug(text: string): string {
  if (isSlug(text)) return text;
  throw new CaissonError(
    "INVALID_SLUG",
    `Invalid slug ${JSON.stringify(text.slice(0, 64))}: use 2 to 32 characters of a-z, 0-9 and "-", ` +
      `with no "-" at the start, at the end, or at positions 3 and 4 together`,
  );
}
