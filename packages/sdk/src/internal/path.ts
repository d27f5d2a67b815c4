import { fileURLToPath } from "node:url";

/** The path that a `file:` URL names; text is taken as it is. */
export function toPath(path: string | URL): string {
  return typeof path === "string" ? path : fileURLToPath(path);
}
