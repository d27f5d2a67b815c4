import type { Sandbox } from "../host/sandbox.ts";

/**
 * The path that the kernel is given: relative ones start at the sandbox's default directory (protocol.md 5.6). `..` is left to the kernel,
 * which looks at symbolic links where lexical joining would not, and an empty path stays empty, so that it is not found.
 */
export function resolvePath(sandbox: Sandbox, path: string): string {
  return path === "" ? path : pathFrom(sandbox.settings.defaultDirectory, path);
}

/** The same for a path that starts at another directory, which is absolute. */
export function pathFrom(directory: string, path: string): string {
  return path.startsWith("/") ? path : `${directory}/${path}`;
}

/** The file URL of an absolute directory, with a slash at the end. */
export function directoryUrl(path: string): string {
  return `file://${encodeURI(path).replace(/[?#]/g, encodeURIComponent)}/`;
}
