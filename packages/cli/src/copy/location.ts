import { usageError } from "../cli-error.ts";
import { isSandboxId } from "../sandbox-argument.ts";

/** One side of a copy: a path on this machine, or in a sandbox. */
export interface Location {
  readonly sandboxId: string | null;
  readonly path: string;
}

/** Reads `<path>` or `<sandbox-id>:<path>`. An empty path in a sandbox is the default directory. */
export function parseLocation(text: string): Location {
  const [, id, path] = /^(sbx_[^:]*):(.*)$/s.exec(text) ?? [];
  if (id === undefined || path === undefined) {
    if (isSandboxId(text)) throw usageError(`${text} names no path`, `To copy into its default directory: ${text}:`);
    return { sandboxId: null, path: text };
  }
  if (!isSandboxId(id))
    throw usageError(
      `Invalid sandbox id ${JSON.stringify(id)} in ${JSON.stringify(text)}`,
      "List sandboxes with `caisson list`.",
    );
  return { sandboxId: id, path: path === "" ? "." : path };
}

/** True when the path may stand for several. */
export function hasGlob(path: string): boolean {
  return /[*?[\]{}]/.test(path);
}
