import { CaissonError, type Labels } from "@caisson/model";
import { lastValue } from "./pagination.ts";

/** Reads label filters of both dialects: `labels[k]=v`, one parameter a label, and Python's `labels={'k': 'v'}` (protocol.md 2.4). */
export function parseLabelFilter(query: Readonly<Record<string, unknown>>): Labels {
  const labels: Record<string, string> = {};
  for (const [name, value] of Object.entries(query)) {
    const text = lastValue(value) ?? "";
    const key = /^labels\[(.+)\]$/.exec(name)?.[1];
    if (key !== undefined) labels[key] = text;
    else if (name === "labels" && text !== "" && text !== "None") Object.assign(labels, parsePythonDictionary(text));
  }
  const count = Object.keys(labels).length;
  if (count <= MAX_FILTERS) return labels;
  throw new CaissonError(
    "INVALID_LABELS",
    `The query filters by ${count} labels: give at most ${MAX_FILTERS}, of which nothing can have more than 5`,
  );
}

const MAX_FILTERS = 64;
const MAX_CODE_POINT = 0x10ffff;
const PYTHON_STRING = /\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*([:,}])/y;

/** A Python literal of a dictionary from text to text, as `str(dict)` prints it. Throws `INVALID_LABELS`. */
function parsePythonDictionary(text: string): Record<string, string> {
  const body = text.trim();
  if (/^\{\s*\}$/.test(body)) return {};
  const parts: string[] = [];
  let position = body.startsWith("{") ? 1 : body.length;
  let separators = "";
  while (position < body.length) {
    PYTHON_STRING.lastIndex = position;
    const match = PYTHON_STRING.exec(body);
    if (match?.[1] === undefined) break;
    parts.push(unescapePython(match[1].slice(1, -1)));
    separators += match[2];
    position = PYTHON_STRING.lastIndex;
  }
  if (position !== body.length || !/^:(,:)*\}$/.test(separators)) {
    throw new CaissonError(
      "INVALID_LABELS",
      `Invalid label filter ${JSON.stringify(text.slice(0, 64))}: use labels[key]=value`,
    );
  }
  return Object.fromEntries(parts.flatMap((key, index) => (index % 2 === 0 ? [[key, parts[index + 1] ?? ""]] : [])));
}

function unescapePython(text: string): string {
  const named: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r" };
  return text.replace(
    /\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))/g,
    (_all, x, u, long, other: string | undefined) =>
      other === undefined ? character(Number.parseInt(x ?? u ?? long, 16)) : (named[other] ?? other),
  );
}

function character(code: number): string {
  if (code <= MAX_CODE_POINT) return String.fromCodePoint(code);
  throw new CaissonError(
    "INVALID_LABELS",
    `Invalid label filter: U+${code.toString(16).toUpperCase()} is no character`,
  );
}
