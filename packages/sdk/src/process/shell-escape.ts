/** Characters that mean nothing to a shell. */
const HARMLESS = /^[a-zA-Z0-9_/.-]+$/;

/**
 * Writes a value so that a shell reads exactly it as one word. `null` and `undefined` become an empty word; objects are refused,
 * because their text would rarely be what was meant.
 */
export function escapeShellArgument(value: unknown): string {
  if (typeof value === "object" && value !== null) {
    throw new TypeError("Cannot use an object as a shell argument: give text, a number, or an array of those");
  }
  const text = value === null || value === undefined ? "" : String(value);
  if (text === "") return "''";
  // A backslash is quoted too: the official client passes it bare, and the shell then eats it.
  if (HARMLESS.test(text)) return text;
  return `'${text.replaceAll("'", `'"'"'`)}'`;
}

/** Puts a template together: the text as it stands, each value escaped, each array as several words. */
export function shellText(strings: readonly string[], values: readonly unknown[]): string {
  return strings
    .map((text, index) => {
      if (index >= values.length) return text;
      const value = values[index];
      return text + (Array.isArray(value) ? value.map(escapeShellArgument).join(" ") : escapeShellArgument(value));
    })
    .join("");
}
