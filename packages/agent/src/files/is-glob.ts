/** Closes the brackets that an escaped opening one spans. */
const CLOSING: Readonly<Record<string, string>> = { "{": "}", "(": ")", "[": "]" };
const ESCAPE_OR_MAGIC = /\\(.)|^!|[*?]|\[[^[\\\]]+\]|\{[^{\\}]+\}|\([^(|]+\|[^\\)]+\)|@\([^)]+\)/;

/** Whether a segment of a glob has characters that make it a pattern, as `isGlob` of the Deno standard library decides. */
export function isGlob(segment: string): boolean {
  let rest = segment;
  for (;;) {
    const match = ESCAPE_OR_MAGIC.exec(rest);
    if (match === null) return false;
    const escaped = match[1];
    if (escaped === undefined) return true;
    const end = match.index + match[0].length;
    const closing = CLOSING[escaped];
    const closingIndex = closing === undefined ? -1 : rest.indexOf(closing, end);
    rest = rest.slice(closingIndex === -1 ? end : closingIndex + 1);
  }
}

/** The name that a segment without magic characters stands for. */
export function unescapeGlob(segment: string): string {
  return segment.replace(/\\([*?{}[\]()|+@!])/g, "$1");
}
