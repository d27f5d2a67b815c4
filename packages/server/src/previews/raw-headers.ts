/** Names and values, one after the other, as Node's `rawHeaders`. */
export type RawHeaders = readonly string[];

/** Pairs of names, in lower case, and values. */
export function* pairs(raw: RawHeaders): Generator<readonly [name: string, value: string]> {
  for (let index = 0; index + 1 < raw.length; index += 2)
    yield [(raw[index] ?? "").toLowerCase(), raw[index + 1] ?? ""];
}
