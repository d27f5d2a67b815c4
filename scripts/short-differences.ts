import assert, { AssertionError } from "node:assert/strict";
import { inspect, isDeepStrictEqual } from "node:util";

/**
 * Loaded before each test file (test.sh). To show how two values differ, `node:assert` compares their texts line by line, in the square of their length: for lists of
 * a thousand rows that takes minutes, and for a mebibyte of bytes, which has a line for each, hours. So of large values only the first part that differs is shown.
 */
const LARGE_LINES = 2_000;
const SHOWN_ITEMS = 20;
const SHOWN_CHARACTERS = 500;

interface Difference {
  readonly path: string;
  readonly actual: unknown;
  readonly expected: unknown;
}

type Comparison = (actual: unknown, expected: unknown, message?: string | Error) => void;

const deepEqual = shortened(assert.deepEqual, isDeepStrictEqual);
const equal = shortened(assert.equal, Object.is);
Object.assign(assert, { deepEqual, deepStrictEqual: deepEqual, equal, strictEqual: equal });

function shortened(compare: Comparison, isEqual: (actual: unknown, expected: unknown) => boolean): Comparison {
  const shown: Comparison = (actual, expected, message) => {
    if (isEqual(actual, expected)) return;
    const isLarge = linesOf(actual) + linesOf(expected) > LARGE_LINES;
    if (!isLarge || message instanceof Error) return compare(actual, expected, message);
    const { path, ...parts } = firstDifference(actual, expected, "");
    const where = path === "" ? "" : `, first at ${path}`;
    const text = `${message ?? "Expected large values to be equal"}: they differ${where}`;
    throw new AssertionError({ ...parts, message: text, operator: "deepStrictEqual", stackStartFn: shown });
  };
  return shown;
}

/** About the lines of its text, no further than they tell whether it is large. */
function linesOf(value: unknown): number {
  if (typeof value === "string") return value.split("\n", LARGE_LINES + 1).length;
  if (typeof value !== "object" || value === null) return 1;
  if (ArrayBuffer.isView(value)) return value.byteLength;
  let lines = 1;
  for (const part of value instanceof Map || value instanceof Set ? value : Object.values(value)) {
    lines += linesOf(part);
    if (lines > LARGE_LINES) break;
  }
  return lines;
}

function firstDifference(actual: unknown, expected: unknown, path: string): Difference {
  if (typeof actual === "string" && typeof expected === "string") {
    let at = 0;
    while (actual[at] === expected[at]) at += 1;
    const part = (text: string): string => text.slice(at, at + SHOWN_CHARACTERS);
    return { path: `${path}[${at}]`, actual: part(actual), expected: part(expected) };
  }
  if (isList(actual) && isList(expected)) {
    let at = 0;
    while (at < Math.min(actual.length, expected.length) && isDeepStrictEqual(actual[at], expected[at])) at += 1;
    const part = (list: ArrayLike<unknown>): unknown[] => Array.prototype.slice.call(list, at, at + SHOWN_ITEMS);
    const parts = { actual: part(actual), expected: part(expected) };
    if (linesOf(parts) <= LARGE_LINES) return { path: `${path}[${at}]`, ...parts };
    return firstDifference(actual[at], expected[at], `${path}[${at}]`);
  }
  if (isRecord(actual) && isRecord(expected))
    for (const key of new Set([...Object.keys(actual), ...Object.keys(expected)]))
      if (!isDeepStrictEqual(actual[key], expected[key]))
        return firstDifference(actual[key], expected[key], `${path}.${key}`);
  return { path, actual: outline(actual), expected: outline(expected) };
}

function outline(value: unknown): string {
  return inspect(value, { depth: 1, maxArrayLength: SHOWN_ITEMS, maxStringLength: SHOWN_CHARACTERS });
}

function isList(value: unknown): value is readonly unknown[] | Uint8Array {
  return Array.isArray(value) || value instanceof Uint8Array;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}
