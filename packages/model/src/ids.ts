import { randomInt } from "node:crypto";

/** Base 33: digits and lower-case letters without `i`, `l` and `o` (protocol.md 5.2). */
const ALPHABET = "0123456789abcdefghjkmnpqrstuvwxyz";
const RANDOM_LENGTH = 20;

/** Kinds of object that carry an id of the shape `<prefix>_<region>_<20 characters>`. */
export type IdPrefix = "vol" | "snp" | "sbx";

const ID_PATTERN = /^(vol|snp|sbx)_([a-z]{3})_[0-9a-hjkmnp-z]{20}$/;

/** Makes a new random id, for example `vol_ord_spmbe47dysccpy277ma6`. About 101 bits are random. */
export function newId(prefix: IdPrefix, region: string): string {
  return `${prefix}_${region}_${randomCharacters(RANDOM_LENGTH)}`;
}

/** Random characters of the id alphabet; used wherever an unguessable name is wanted. */
export function randomCharacters(count: number): string {
  let text = "";
  for (let index = 0; index < count; index += 1) text += ALPHABET.charAt(randomInt(ALPHABET.length));
  return text;
}

/** Splits an id into kind and region, or returns `null` when the text is not an id (it may be a slug). */
export function parseId(text: string): { readonly prefix: IdPrefix; readonly region: string } | null {
  const match = ID_PATTERN.exec(text);
  if (match === null) return null;
  const [, prefix, region] = match;
  return { prefix: prefix as IdPrefix, region: region ?? "" };
}
