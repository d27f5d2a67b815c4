import type { Sandbox } from "./sandbox.ts";

/**
 * The path that the kernel is given: relative ones start at the sandbox's default directory (protocol.md 5.6). `..` is left to the kernel,
 * which looks at symbolic links where lexical joining would not, and an empty path stays empty, so that it is not found.
 */
export function resolvePath(sandbox: Sandbox, path: string): string {
  return path === "" || path.startsWith("/") ? path : `${sandbox.settings.defaultDirectory}/${path}`;
}

/** The file URL of an absolute directory, with a slash at the end. */
export function directoryUrl(path: string): string {
  return `file://${encodeURI(path).replace(/[?#]/g, encodeURIComponent)}/`;
}
