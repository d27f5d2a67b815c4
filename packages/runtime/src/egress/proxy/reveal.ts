import type { EgressSecret } from "../../runtime.ts";

/** Longest body in which placeholders are looked for. */
export const REVEALED_BODY_BYTES_MAX = 1024 * 1024;

/** Header values with the values of secrets in place of their placeholders; `rawHeaders` alternates names and values. */
export function revealHeaders(rawHeaders: readonly string[], secrets: readonly EgressSecret[]): string[] {
  return rawHeaders.map((text, index) => {
    const name = rawHeaders[index - 1]?.toLowerCase();
    return index % 2 === 0 || name === "host" ? text : reveal(text, secrets, headerText);
  });
}

/** A path and query with the values of secrets, escaped as a URL needs them. */
export function revealPath(path: string, secrets: readonly EgressSecret[]): string {
  return reveal(path, secrets, encodeURIComponent);
}

/** How values are written in a body of this type; null for types in which placeholders stay. */
export function bodyEncoder(contentType: string): ((value: string) => string) | null {
  const type = contentType.split(";")[0]?.trim().toLowerCase() ?? "";
  if (type === "application/x-www-form-urlencoded") return encodeURIComponent;
  if (type === "application/json" || type.endsWith("+json")) return (value) => JSON.stringify(value).slice(1, -1);
  return type.startsWith("text/") ? (value) => value : null;
}

/** A body with the values of secrets. Bytes are kept as they are but for the placeholders, whatever their character set. */
export function revealBody(body: Buffer, secrets: readonly EgressSecret[], encode: (value: string) => string): Buffer {
  const asBytes = (value: string): string => headerText(encode(value));
  return Buffer.from(reveal(body.toString("latin1"), secrets, asBytes), "latin1");
}

function reveal(text: string, secrets: readonly EgressSecret[], encode: (value: string) => string): string {
  return secrets.reduce((result, { placeholder, value }) => result.replaceAll(placeholder, () => encode(value)), text);
}

/** Node writes header values as Latin-1, so text beyond ASCII is given as its UTF-8 bytes, one character each. */
function headerText(value: string): string {
  return Buffer.from(value, "utf8").toString("latin1");
}
