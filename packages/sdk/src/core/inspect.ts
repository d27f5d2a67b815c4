/** Under this name Node, Deno and Bun look for an object's own way to be shown by `console.log`. */
export const inspectSymbol: unique symbol = Symbol.for("nodejs.util.inspect.custom");

/** Shows chosen fields of an object under its class's name. */
export function inspectAs(name: string, fields: object, depth: number, options: object, inspect: unknown): string {
  if (depth < 0) return `[${name}]`;
  const shown = typeof inspect === "function" ? inspect(fields, options) : JSON.stringify(fields);
  return `${name} ${shown}`;
}
