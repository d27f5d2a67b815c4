import { parseId } from "@caisson/model";
import { usageError } from "./cli-error.ts";

const HINT = "List sandboxes with `caisson list`, or set SANDBOX_ID.";

/** True when the text has the form of a sandbox's id. */
export function isSandboxId(text: string): boolean {
  return parseId(text)?.prefix === "sbx";
}

/**
 * Takes the sandbox's id off the front of the arguments. When the first argument is none, the id is `$SANDBOX_ID` and all arguments are
 * left: ids have a form that no command and no duration has.
 */
export function takeSandboxId(
  words: readonly string[],
  environment: NodeJS.ProcessEnv,
): { readonly id: string; readonly rest: readonly string[] } {
  const [first, ...rest] = words;
  if (first !== undefined && isSandboxId(first)) return { id: first, rest };
  if (first?.startsWith("sbx_")) throw usageError(`Invalid sandbox id ${JSON.stringify(first)}`, HINT);
  const id = environment.SANDBOX_ID;
  if (!id) {
    const problem = first === undefined ? "No sandbox id given" : `Not a sandbox id: ${JSON.stringify(first)}`;
    throw usageError(problem, HINT);
  }
  if (!isSandboxId(id)) throw usageError(`Invalid sandbox id in SANDBOX_ID: ${JSON.stringify(id)}`, HINT);
  return { id, rest: words };
}

/** The sandbox's id, for commands that take nothing else. */
export function requireSandboxId(given: string | undefined, environment: NodeJS.ProcessEnv): string {
  const { id, rest } = takeSandboxId(given === undefined ? [] : [given], environment);
  const [extra] = rest;
  if (extra !== undefined) throw usageError(`Not a sandbox id: ${JSON.stringify(extra)}`, HINT);
  return id;
}
