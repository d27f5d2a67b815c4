import { NOTIFICATIONS } from "./rpc.ts";

/**
 * The notification that carries a chunk of a stream (protocol.md 3.5), as the JavaScript clients and the agent write it: with its members in this order
 * and no blanks. Nearly all bytes of a transfer are in such messages, so both sides find the data in them without parsing the JSON, which would take
 * longer than everything else that is done with them. What is written in any other way is parsed.
 */
const HEAD = `{"jsonrpc":"2.0","method":"${NOTIFICATIONS.streamEnqueue}","params":{"streamId":`;
const MIDDLE = ',"data":"';
const TAIL = '"}}';

const [HEAD_CODES, MIDDLE_CODES, TAIL_CODES] = [HEAD, MIDDLE, TAIL].map((text) =>
  Uint8Array.from(text, (character) => character.charCodeAt(0)),
) as [Uint8Array, Uint8Array, Uint8Array];
const [ZERO, NINE, EQUALS] = [0x30, 0x39, 0x3d];
/** Of the largest number that JavaScript keeps exactly. */
const MAX_DIGITS = 16;
/** What the message has beside the data at most. */
export const CHUNK_MESSAGE_BYTES = HEAD.length + 20 + MIDDLE.length + TAIL.length;

/** What stands in front of the base64 of a chunk, and behind it. */
export function chunkMessageParts(streamId: number): readonly [before: string, after: string] {
  return [`${HEAD}${streamId}${MIDDLE}`, TAIL];
}

export interface FoundChunk {
  readonly streamId: number;
  /** Where the text between the quotes lies. It may be anything yet: see `decodedLength`. */
  readonly start: number;
  readonly end: number;
}

/** Finds the data in a message; null when it is another message, or is not written as above. */
export function findChunk(message: Uint8Array): FoundChunk | null {
  if (!hasCodes(message, 0, HEAD_CODES)) return null;
  let position = HEAD_CODES.length;
  let streamId = 0;
  for (let code = message[position] ?? 0; code >= ZERO && code <= NINE; code = message[position] ?? 0) {
    streamId = streamId * 10 + (code - ZERO);
    position += 1;
  }
  const digits = position - HEAD_CODES.length;
  const isExact = digits <= MAX_DIGITS && Number.isSafeInteger(streamId);
  const isNumber = digits > 0 && isExact && (digits === 1 || message[HEAD_CODES.length] !== ZERO);
  const end = message.length - TAIL_CODES.length;
  const start = position + MIDDLE_CODES.length;
  const isWhole = start <= end && hasCodes(message, position, MIDDLE_CODES) && hasCodes(message, end, TAIL_CODES);
  return isNumber && isWhole ? { streamId, start, end } : null;
}

/**
 * How many bytes the base64 between `start` and `end` stands for when it holds nothing else; null when it cannot be base64. Decoders pass over blanks and the
 * like, so text is what it should be only when it gives as many bytes as this.
 */
export function decodedLength(message: Uint8Array, { start, end }: FoundChunk): number | null {
  let last = end;
  while (last > start && end - last < 2 && message[last - 1] === EQUALS) last -= 1;
  const length = last - start;
  return length % 4 === 1 ? null : Math.floor((length * 3) / 4);
}

function hasCodes(message: Uint8Array, offset: number, codes: Uint8Array): boolean {
  for (let index = 0; index < codes.length; index += 1) if (message[offset + index] !== codes[index]) return false;
  return true;
}
