import type { EgressSecret } from "../runtime.ts";

/** Header values with the values of secrets in place of their placeholders; `rawHeaders` alternates names and values. */
export function revealHeaders(rawHeaders: readonly string[], secrets: readonly EgressSecret[]): string[] {
  return rawHeaders.map((text, index) => (index % 2 === 0 ? text : reveal(text, secrets, headerText)));
}

/** A path and query with the values of secrets, escaped as a URL needs them. */
export function revealPath(path: string, secrets: readonly EgressSecret[]): string {
  return reveal(path, secrets, encodeURIComponent);
}

function reveal(text: string, secrets: readonly EgressSecret[], encode: (value: string) => string): string {
  return secrets.reduce((result, { placeholder, value }) => result.replaceAll(placeholder, () => encode(value)), text);
}

/** Node writes header values as Latin-1, so text beyond ASCII is given as its UTF-8 bytes, one character each. */
function headerText(value: string): string {
  return Buffer.from(value, "utf8").toString("latin1");
}
