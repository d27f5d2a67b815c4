/**
 * Operations on the text of POSIX paths, with the results of the Deno standard library's `@std/path` 1.1.4, which is not on the npm registry;
 * the test compares with it. `node:path` gives another name to the root only, but Deno loads its Node compatibility for it, which takes 12 ms
 * or more in the middle of the first `walk` (the least of seven runs).
 */

/** Joins parts with `/` and normalises; empty parts do not count. */
export function joinPath(...parts: readonly string[]): string {
  const joined = parts.filter((part) => part !== "").join("/");
  return joined === "" ? "." : normalizePath(joined);
}

/** Resolves `.`, `..` and repeated slashes, keeping a trailing slash. */
export function normalizePath(path: string): string {
  const isAbsolute = path.startsWith("/");
  const kept = collapse(path, isAbsolute).join("/");
  if (kept === "") return isAbsolute ? "/" : path.endsWith("/") ? "./" : ".";
  return `${isAbsolute ? "/" : ""}${kept}${path.endsWith("/") ? "/" : ""}`;
}

/** The absolute path of `path` seen from the absolute directory `base`, without a trailing slash. */
export function absolutePath(base: string, path: string): string {
  return `/${collapse(path.startsWith("/") ? path : `${base}/${path}`, true).join("/")}`;
}

/** The last part of a path, whether or not a slash follows; the root's is `/`. */
export function baseName(path: string): string {
  const parts = path.split("/").filter((part) => part !== "");
  return parts.at(-1) ?? (path.startsWith("/") ? "/" : "");
}

function collapse(path: string, isAbsolute: boolean): string[] {
  const kept: string[] = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== ".." || (kept.length === 0 && !isAbsolute) || kept.at(-1) === "..") kept.push(part);
    else kept.pop();
  }
  return kept;
}
