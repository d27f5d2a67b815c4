import { Buffer } from "node:buffer";

/** Bytes that are not UTF-8 are lone surrogates in the text of a name, U+DC00 + byte, in sandboxes as here. */
const ESCAPES = /([\udc80-\udcff])/u;
const ESCAPE_BASE = 0xdc00;

/** A path for the calls of Node. */
export function toLocalPath(path: string): string | Buffer {
  const parts = path.split(ESCAPES);
  if (parts.length === 1) return path;
  return Buffer.concat(
    parts.map((part) => (ESCAPES.test(part) ? Buffer.of(part.charCodeAt(0) - ESCAPE_BASE) : Buffer.from(part))),
  );
}

/** The text of a name that Node gave in bytes. */
export function fromLocalName(bytes: Buffer): string {
  const text = bytes.toString();
  return text.includes("\ufffd") ? escaped(bytes) : text;
}

function escaped(bytes: Buffer): string {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let text = "";
  for (let start = 0; start < bytes.length; ) {
    const character = [1, 2, 3, 4].flatMap((length) => {
      try {
        return [{ text: decoder.decode(bytes.subarray(start, start + length)), length }];
      } catch {
        return [];
      }
    })[0];
    text += character?.text ?? String.fromCharCode(ESCAPE_BASE + (bytes[start] ?? 0));
    start += character?.length ?? 1;
  }
  return text;
}
