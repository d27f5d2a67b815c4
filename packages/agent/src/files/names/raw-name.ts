/**
 * Names are bytes to Linux and text to Deno and on the wire. Bytes that are not UTF-8 stand in a text as Python's `surrogateescape` has them: as the
 * lone surrogate U+DC00 + byte, which no UTF-8 decodes to, which JSON carries as an escape, and which means the same name in Python.
 */
const ESCAPE = /[\udc80-\udcff]/u;
const ESCAPES = /([\udc80-\udcff])/u;
const ESCAPE_BASE = 0xdc00;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** True for a path with bytes that are not UTF-8. */
export function isRaw(path: string): boolean {
  return ESCAPE.test(path);
}

/** The path for the C library, with its end. Throws `InvalidData` for one that ends earlier. */
export function toBytes(path: string): Uint8Array<ArrayBuffer> {
  if (path.includes("\0")) throw new Deno.errors.InvalidData("file name contained an unexpected NUL byte");
  const bytes = path
    .split(ESCAPES)
    .flatMap((part) => (isRaw(part) ? [part.charCodeAt(0) - ESCAPE_BASE] : [...encoder.encode(part)]));
  return Uint8Array.from([...bytes, 0]);
}

/** The text of a name, or of a path, that is given in bytes. */
export function fromBytes(bytes: Uint8Array): string {
  let text = "";
  for (let start = 0; start < bytes.length; ) {
    const end = bytes.findIndex((byte, index) => index >= start && byte >= 0x80);
    const ascii = bytes.subarray(start, end === -1 ? bytes.length : end);
    text += decoder.decode(ascii);
    start += ascii.length;
    if (end === -1) break;
    const character = characterAt(bytes, start);
    text += character?.text ?? String.fromCharCode(ESCAPE_BASE + (bytes[start] ?? 0));
    start += character?.length ?? 1;
  }
  return text;
}

/** The character of UTF-8 that begins there, of 2 to 4 bytes. */
function characterAt(bytes: Uint8Array, start: number): { readonly text: string; readonly length: number } | null {
  for (const length of [2, 3, 4]) {
    try {
      return { text: decoder.decode(bytes.subarray(start, start + length)), length };
    } catch {
      // Not of this length, or none.
    }
  }
  return null;
}
