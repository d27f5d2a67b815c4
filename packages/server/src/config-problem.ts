import type { TSchema } from "typebox";
import type { TLocalizedValidationError } from "typebox/error";
import { Value } from "typebox/value";

/**
 * All that is wrong with the settings of a file, for the person who wrote it, in the order of the lines: each with its line, the setting's whole
 * name, and the right name when it looks misspelt.
 */
export function describeProblems(schema: TSchema, value: unknown, text: string): readonly string[] {
  const errors = Value.Errors(schema, value);
  const misspelt = errors.filter(({ keyword }) => keyword === "boolean").map(({ instancePath }) => instancePath);
  const tables = new Set(misspelt.map((path) => path.slice(0, path.lastIndexOf("/"))));
  const told = errors.filter(({ keyword, instancePath }) => {
    // The names that are too many are in the list by themselves, and what may be one of several has an error for each.
    if (keyword === "additionalProperties" || keyword === "anyOf") return false;
    // One that is missing may be the one that is misspelt.
    return keyword !== "required" || !tables.has(instancePath);
  });
  const names = settingNames(schema);
  return [...Map.groupBy(told, ({ instancePath }) => instancePath)]
    .map(([instancePath, all]) => {
      const path = instancePath.split("/").slice(1);
      const line = lineOf(text, path);
      const problem = describeProblem(names, path, reasonOf(all), text);
      return { line, problem: line === null ? problem : `line ${line}: ${problem}` };
    })
    .sort((a, b) => (a.line ?? 0) - (b.line ?? 0))
    .map(({ problem }) => problem);
}

/** What a value has to be, of all that is wrong with it. */
function reasonOf(errors: readonly TLocalizedValidationError[]): string {
  const allowed = errors.flatMap((error) =>
    error.keyword === "const" ? [JSON.stringify(error.params.allowedValue)] : [],
  );
  if (allowed.length > 0) return `must be ${allowed.join(" or ")}`;
  return [...new Set(errors.map(({ message }) => message))].join(" or ");
}

function describeProblem(names: readonly string[], path: readonly string[], reason: string, text: string): string {
  // An item of a list has no name of its own.
  const name = path.filter((part) => !/^\d+$/.test(part)).join(".");
  if (name === "" || names.includes(name)) {
    const message = reason.replace("must have required properties", "needs");
    const isTable = message === "must be array" && new RegExp(`^\\s*\\[\\s*${name}\\s*\\]`, "m").test(text);
    return `${name === "" ? "the file" : `"${name}"`} ${isTable ? `is a list: write [[${name}]] above each item` : message}`;
  }
  const nearest = nearestName(names, name);
  return `there is no setting "${name}"${nearest === null ? "" : `. Did you mean "${nearest}"?`}`;
}

/** Every setting's whole name, for example `sandboxes.cpus`. */
function settingNames(schema: TSchema, prefix = ""): readonly string[] {
  if ("items" in schema) return settingNames(schema.items as TSchema, prefix);
  const properties = "properties" in schema ? (schema.properties as Readonly<Record<string, TSchema>>) : {};
  return Object.entries(properties).flatMap(([key, child]) => [
    `${prefix}${key}`,
    ...settingNames(child, `${prefix}${key}.`),
  ]);
}

/** The name that is a few letters away, or the same in another table. */
function nearestName(names: readonly string[], wanted: string): string | null {
  const last = wanted.split(".").at(-1) ?? "";
  const elsewhere = names.find((name) => name.split(".").at(-1) === last);
  if (elsewhere !== undefined) return elsewhere;
  const ranked = names
    .map((name) => ({ name, distance: editDistance(name, wanted) }))
    .sort((a, b) => a.distance - b.distance);
  const [best] = ranked;
  return best !== undefined && best.distance <= Math.max(2, last.length / 3) ? best.name : null;
}

/** How many letters must be added, removed or replaced to make one text the other. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (const [row, letter] of [...a].entries()) {
    const current = [row + 1];
    for (const [column, other] of [...b].entries()) {
      const replaced = (previous[column] ?? 0) + (letter === other ? 0 : 1);
      current.push(Math.min(replaced, (previous[column + 1] ?? 0) + 1, (current[column] ?? 0) + 1));
    }
    previous = current;
  }
  return previous.at(-1) ?? 0;
}

/** The line of the setting, or null where it is not written plainly. */
function lineOf(text: string, path: readonly string[]): number | null {
  const key = path.at(-1);
  if (key === undefined) return null;
  const table = path.slice(0, -1).join(".");
  let current = "";
  const counts = new Map<string, number>();
  for (const [index, line] of text.split("\n").entries()) {
    current = /^\s*\[\s*([\w.-]+)\s*\]/.exec(line)?.[1] ?? current;
    const item = /^\s*\[\[\s*([\w.-]+)\s*\]\]/.exec(line)?.[1];
    if (item !== undefined) {
      const count = counts.get(item) ?? 0;
      counts.set(item, count + 1);
      current = `${item}.${count}`;
    }
    const written = /^\s*"?([\w.-]+?)"?\s*=/.exec(line)?.[1];
    const isTable = [path.join("."), `${path.join(".")}.0`].includes(current) && line.trimStart().startsWith("[");
    if (isTable || (written === key && current === table) || (written === path.join(".") && current === ""))
      return index + 1;
  }
  return null;
}
