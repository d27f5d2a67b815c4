/** Strings at least this long are kept as bytes while their message is parsed. */
const LARGE_BYTES = 1024 * 1024;
/** A multiple of four, so that each piece of base64 stands alone. */
const PIECE_CHARACTERS = 64 * 1024;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** Stands for the string that was cut out; a control character cannot come from a client unescaped, so no client sends this text. */
const PLACEHOLDER = "\u0001large";

const ascii = new TextDecoder("latin1");
const utf8 = new TextDecoder("utf-8", { fatal: true });

/**
 * A long string of a message that was never made a JavaScript string. A file of 256 MiB arrives as one base64 string (protocol.md 3.1);
 * as bytes it is decoded in place, so that it costs its message's memory once instead of four times.
 */
export class LargeString {
  readonly #bytes: Uint8Array<ArrayBuffer>;

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.#bytes = bytes;
  }

  toString(): string {
    return utf8.decode(this.#bytes);
  }

  /** Decodes base64 over the string's own bytes, which are gone afterwards. Throws `SyntaxError` when it is not base64. */
  decodeBase64(): Uint8Array<ArrayBuffer> {
    let written = 0;
    for (let offset = 0; offset < this.#bytes.length; offset += PIECE_CHARACTERS) {
      const piece = ascii.decode(this.#bytes.subarray(offset, offset + PIECE_CHARACTERS));
      const { read, written: count } = this.#bytes
        .subarray(written)
        .setFromBase64(piece, { lastChunkHandling: "strict" });
      const isLast = offset + PIECE_CHARACTERS >= this.#bytes.length;
      if (read < piece.length || (!isLast && piece.endsWith("=")))
        throw new SyntaxError("Invalid base64-encoded string");
      written += count;
    }
    return this.#bytes.subarray(0, written);
  }
}

/**
 * Parses JSON whose top-level `params` may have one long string without escapes, which becomes a `LargeString`. Anything else is
 * parsed as usual. Throws `SyntaxError` for malformed JSON and `TypeError` for malformed UTF-8.
 */
export function parseLargeJson(bytes: Uint8Array<ArrayBuffer>): unknown {
  const range = findLargeString(bytes);
  if (range === null) return JSON.parse(utf8.decode(bytes));
  const [start, end] = range;
  const head = utf8.decode(bytes.subarray(0, start));
  const tail = utf8.decode(bytes.subarray(end));
  // A raw control character is not valid in JSON text, so the placeholder goes in escaped.
  const message: unknown = JSON.parse(`${head}\\u0001large${tail}`);
  const params = typeof message === "object" && message !== null && "params" in message ? message.params : null;
  if (typeof params === "object" && params !== null) {
    for (const [key, value] of Object.entries(params)) {
      if (value !== PLACEHOLDER) continue;
      (params as Record<string, unknown>)[key] = new LargeString(bytes.subarray(start, end));
      return message;
    }
  }
  return JSON.parse(utf8.decode(bytes));
}

/** Where the first long string without escapes lies, without its quotes. */
function findLargeString(bytes: Uint8Array): readonly [start: number, end: number] | null {
  if (bytes.length < LARGE_BYTES) return null;
  let open = bytes.indexOf(QUOTE);
  while (open !== -1) {
    const close = endOfString(bytes, open + 1);
    if (close === -1) return null;
    const isLarge = close - open > LARGE_BYTES;
    if (isLarge && !bytes.subarray(open + 1, close).includes(BACKSLASH)) return [open + 1, close];
    open = bytes.indexOf(QUOTE, close + 1);
  }
  return null;
}

/** The closing quote of the string whose content begins at `start`, or -1. */
function endOfString(bytes: Uint8Array, start: number): number {
  for (let close = bytes.indexOf(QUOTE, start); close !== -1; close = bytes.indexOf(QUOTE, close + 1)) {
    let backslashes = 0;
    while (bytes[close - 1 - backslashes] === BACKSLASH && close - 1 - backslashes >= start) backslashes += 1;
    if (backslashes % 2 === 0) return close;
  }
  return -1;
}
