import { isAbsolute, posix, relative, sep } from "node:path";

/**
 * The text for the copy of a link. Relative links are copied as they are. An absolute one that leads into the copied tree is made
 * relative, so that it leads into the copy.
 */
export function linkText(text: string, linkPath: string, root: string): string {
  if (!isAbsolute(text) || !isInside(text, root)) return text;
  return relative(posix.dirname(linkPath), text).split(sep).join("/") || ".";
}

/** True when the path is the root or lies below it. Both must be absolute. */
function isInside(path: string, root: string): boolean {
  const below = relative(root, path);
  return below === "" || !(below === ".." || below.startsWith(`..${sep}`) || isAbsolute(below));
}
