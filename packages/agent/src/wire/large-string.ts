import type { LargePayload } from "./large-payload.ts";

/** Strings at least this long stay where their message is while it is parsed. */
const LARGE_BYTES = 1024 * 1024;
const PIECE_BYTES = 256 * 1024;
/** Most of a message that may become JavaScript values. */
const MAX_PARSED_BYTES = 32 * 1024 * 1024;
/** Longest large string that becomes a JavaScript string. */
const MAX_TEXT_BYTES = 16 * 1024 * 1024;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** Stands for the string that was cut out; a control character cannot come from a client unescaped, so no client sends this text. */
const PLACEHOLDER = "\u0001large";

const encoder = new TextEncoder();

/**
 * A long string of a message that never was a JavaScript string. A file of 256 MiB arrives as one base64 string (protocol.md 3.1); it is
 * decoded in pieces, so that it costs no memory beside its message's, which may be a file. Reading ends when the message is released.
 */
export class LargeString {
  readonly #payload: LargePayload;
  readonly #start: number;
  readonly #end: number;

  constructor(payload: LargePayload, start: number, end: number) {
    this.#payload = payload;
    this.#start = start;
    this.#end = end;
  }

  get length(): number {
    return this.#end - this.#start;
  }

  /** What base64 stands for. Throws `SyntaxError` when it is none. */
  async *bytes(): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    let rest = "";
    for await (const piece of this.#texts()) {
      const text = rest + piece;
      const whole = text.length - (text.length % 4);
      // Padding ends base64, so the last four characters wait until it is known that nothing follows.
      const usable = Math.max(0, whole === text.length ? whole - 4 : whole);
      const bytes = Uint8Array.fromBase64(text.slice(0, usable), { lastChunkHandling: "strict" });
      if (text[usable - 1] === "=") throw new SyntaxError("Invalid base64-encoded string");
      rest = text.slice(usable);
      if (bytes.length > 0) yield bytes;
    }
    const last = Uint8Array.fromBase64(rest, { lastChunkHandling: "strict" });
    if (last.length > 0) yield last;
  }

  /** The text as UTF-8. */
  async *utf8(): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    for await (const text of this.#texts()) yield encoder.encode(text);
  }

  /** Throws `RangeError` for a text that is too long to be one. */
  async text(): Promise<string> {
    if (this.length > MAX_TEXT_BYTES) throw new RangeError(`The text is longer than ${MAX_TEXT_BYTES} bytes`);
    const texts: string[] = [];
    for await (const text of this.#texts()) texts.push(text);
    return texts.join("");
  }

  /** Lets go of the message that it is a part of. */
  release(): void {
    this.#payload.release();
  }

  /** The string in pieces, none of which ends inside a character or an escape. */
  async *#texts(): AsyncGenerator<string> {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    let rest = "";
    for (let start = this.#start; start < this.#end; start += PIECE_BYTES) {
      const isLast = start + PIECE_BYTES >= this.#end;
      const bytes = await this.#payload.read(start, Math.min(start + PIECE_BYTES, this.#end));
      const source = rest + decoder.decode(bytes, { stream: !isLast });
      const end = isLast ? source.length : endOfWholeEscapes(source);
      rest = source.slice(end);
      const part = source.slice(0, end);
      // Most base64 has nothing to unescape. Raw control characters are not allowed in JSON; the parser refuses them.
      yield NEEDS_PARSER.test(part) ? String(JSON.parse(`"${part}"`)) : part;
    }
  }
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what JSON does not allow in a string.
const NEEDS_PARSER = /[\\\0-\x1f]/;
const FIRST_OF_PAIR = /\\u[dD][89abAB][0-9a-fA-F]{2}$/;

/** Where the escape begins that the text breaks off in, or half of a surrogate pair; its length when it does neither. */
function endOfWholeEscapes(text: string): number {
  const last = text.lastIndexOf("\\");
  let end = text.length;
  if (last !== -1 && isEscapeStart(text, last)) {
    const length = text[last + 1] === "u" ? 6 : 2;
    if (last + length > text.length) end = last;
  }
  const start = end - 6;
  return start >= 0 && FIRST_OF_PAIR.test(text.slice(start, end)) && isEscapeStart(text, start) ? start : end;
}

/** Whether this backslash begins an escape, which every other one of a row does. */
function isEscapeStart(text: string, index: number): boolean {
  let before = index;
  while (text[before - 1] === "\\") before -= 1;
  return (index - before) % 2 === 0;
}

/**
 * Parses a large message, of whose top-level `params` one long string may stay a `LargeString`. Null when more than one part of it is
 * large. Throws `SyntaxError` for malformed JSON and `TypeError` for malformed UTF-8. The payload is still the caller's.
 */
export async function parseLargeJson(payload: LargePayload): Promise<{ readonly value: unknown } | null> {
  const range = await findLargeString(payload);
  if (range === null) return await parseWhole(payload);
  const [start, end] = range;
  if (start + payload.length - end > MAX_PARSED_BYTES) return null;
  const head = await textOf(payload, 0, start);
  const tail = await textOf(payload, end, payload.length);
  // A raw control character is not valid in JSON text, so the placeholder goes in escaped.
  const message: unknown = JSON.parse(`${head}\\u0001large${tail}`);
  const params = typeof message === "object" && message !== null && "params" in message ? message.params : null;
  if (typeof params === "object" && params !== null) {
    for (const [key, value] of Object.entries(params)) {
      if (value !== PLACEHOLDER) continue;
      (params as Record<string, unknown>)[key] = new LargeString(payload, start, end);
      return { value: message };
    }
  }
  return await parseWhole(payload);
}

async function parseWhole(payload: LargePayload): Promise<{ readonly value: unknown } | null> {
  if (payload.length > MAX_PARSED_BYTES) return null;
  return { value: JSON.parse(await textOf(payload, 0, payload.length)) };
}

async function textOf(payload: LargePayload, start: number, end: number): Promise<string> {
  return new TextDecoder("utf-8", { fatal: true }).decode(await payload.read(start, end));
}

/** Where the first long string lies, without its quotes. */
async function findLargeString(payload: LargePayload): Promise<readonly [start: number, end: number] | null> {
  let open = -1;
  /** Whether an escape began in front of the next byte. */
  let isEscaped = false;
  for (let start = 0; start < payload.length; start += PIECE_BYTES) {
    const piece = await payload.read(start, Math.min(start + PIECE_BYTES, payload.length));
    let index = 0;
    while (index < piece.length) {
      if (open === -1) {
        const quote = piece.indexOf(QUOTE, index);
        if (quote === -1) break;
        open = start + quote + 1;
        index = quote + 1;
        continue;
      }
      if (isEscaped) {
        isEscaped = false;
        index += 1;
        continue;
      }
      const quote = piece.indexOf(QUOTE, index);
      const end = quote === -1 ? piece.length : quote;
      let backslashes = 0;
      while (end - backslashes > index && piece[end - backslashes - 1] === BACKSLASH) backslashes += 1;
      if (backslashes % 2 === 1) {
        isEscaped = true;
        index = end;
        continue;
      }
      if (quote === -1) break;
      if (start + quote - open > LARGE_BYTES) return [open, start + quote];
      open = -1;
      index = quote + 1;
    }
  }
  return null;
}
