import { randomInt } from "node:crypto";

/** Base 33: digits and lower-case letters without `i`, `l` and `o` (protocol.md 5.2). */
const ALPHABET = "0123456789abcdefghjkmnpqrstuvwxyz";
const RANDOM_LENGTH = 20;

/** Kinds of object that carry an id of the shape `<prefix>_<region>_<20 characters>`. */
export type IdPrefix = "vol" | "snp" | "sbx";

/**
 * What the random part of a replicated disk's id begins with. The alphabet does not have it, so that no other id, of whatever age, begins so. The class is in
 * the id because everybody who touches the disk needs to know it, on every node and after every loss: nothing else has to be kept that could be lost or wrong.
 */
const REPLICATED_MARK = "o";

const ID_PATTERN = /^(vol|snp|sbx)_([a-z]{3})_(?:[0-9a-hjkmnp-z]|(?<!sbx_[a-z]{3}_)o)[0-9a-hjkmnp-z]{19}$/;
const REPLICATED_PATTERN = /^(?:vol|snp)_[a-z]{3}_o[0-9a-hjkmnp-z]{19}$/;

/** Where the bytes of a volume or snapshot live: in the pool of its node, or in the pool that `[replicated]` of the settings names. */
export type DiskClass = "local" | "replicated";

/** Makes a new random id, for example `vol_ord_spmbe47dysccpy277ma6`. About 101 bits are random, 96 in that of a replicated disk. */
export function newId(prefix: IdPrefix, region: string, diskClass: DiskClass = "local"): string {
  const mark = diskClass === "replicated" ? REPLICATED_MARK : "";
  return `${prefix}_${region}_${mark}${randomCharacters(RANDOM_LENGTH - mark.length)}`;
}

/** The class of the volume or snapshot of that id. What is neither, such as a scratch disk, is local. */
export function classOfId(id: string): DiskClass {
  return REPLICATED_PATTERN.test(id) ? "replicated" : "local";
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
