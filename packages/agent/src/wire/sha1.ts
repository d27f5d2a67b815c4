const BLOCK_BYTES = 64;

/**
 * SHA-1 of ASCII text, for the WebSocket handshake, which uses it as a check and not for security (RFC 6455 section 10.8). Deno's own is
 * loaded on first use, 1.5 ms that every new sandbox would wait for.
 */
export function sha1(text: string): Uint8Array<ArrayBuffer> {
  const state = Int32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0);
  const padded = pad(text);
  for (let offset = 0; offset < padded.byteLength; offset += BLOCK_BYTES) addBlock(state, padded, offset);
  const digest = new DataView(new ArrayBuffer(state.byteLength));
  for (const [index, word] of state.entries()) digest.setInt32(index * 4, word);
  return new Uint8Array(digest.buffer);
}

/** The text, a one bit, zeroes, and the length in bits, as whole blocks. */
function pad(text: string): DataView {
  const blocks = Math.ceil((text.length + 9) / BLOCK_BYTES);
  const view = new DataView(new ArrayBuffer(blocks * BLOCK_BYTES));
  for (let index = 0; index < text.length; index += 1) view.setUint8(index, text.charCodeAt(index));
  view.setUint8(text.length, 0x80);
  view.setUint32(view.byteLength - 4, text.length * 8);
  return view;
}

function addBlock(state: Int32Array, view: DataView, offset: number): void {
  const words = new Int32Array(80);
  for (let index = 0; index < 80; index += 1)
    words[index] = index < 16 ? view.getInt32(offset + index * 4) : expand(words, index);
  let [a = 0, b = 0, c = 0, d = 0, e = 0] = state;
  for (let index = 0; index < 80; index += 1) {
    const [mixed, constant] = round(index, b, c, d);
    const next = (rotate(a, 5) + mixed + e + constant + (words[index] ?? 0)) | 0;
    [a, b, c, d, e] = [next, a, rotate(b, 30), c, d];
  }
  for (const [index, word] of [a, b, c, d, e].entries()) state[index] = (state[index] ?? 0) + word;
}

function expand(words: Int32Array, index: number): number {
  const [w3 = 0, w8 = 0, w14 = 0, w16 = 0] = [words[index - 3], words[index - 8], words[index - 14], words[index - 16]];
  return rotate(w3 ^ w8 ^ w14 ^ w16, 1);
}

function round(index: number, b: number, c: number, d: number): readonly [mixed: number, constant: number] {
  if (index < 20) return [(b & c) | (~b & d), 0x5a827999];
  if (index < 40) return [b ^ c ^ d, 0x6ed9eba1];
  if (index < 60) return [(b & c) | (b & d) | (c & d), 0x8f1bbcdc];
  return [b ^ c ^ d, 0xca62c1d6];
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}
