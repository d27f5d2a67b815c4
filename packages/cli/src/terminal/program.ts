import { quote } from "../quote.ts";

/** What to run in a sandbox. */
export interface Program {
  readonly words: readonly string[];
  /** The only word is a line for the shell. Otherwise the words are a program and its arguments, as they stand. */
  readonly isShellLine: boolean;
}

/**
 * Reads the words of a command. One word is a line for the shell, as `deno sandbox exec` takes it. Several words, or words behind `--`,
 * are a program and its arguments, as `docker exec` takes them: what was quoted stays one argument.
 */
export function readProgram(words: readonly string[], isSeparated: boolean): Program {
  return { words, isShellLine: words.length === 1 && !isSeparated };
}

/** True when `--` stood right before the words, the last ones of all. The framework drops it. */
export function isSeparated(all: readonly string[], words: readonly string[]): boolean {
  return all[all.length - words.length - 1] === "--";
}

/** The program as a line for the shell. */
export function toShellLine({ words, isShellLine }: Program): string {
  return isShellLine ? words.join(" ") : words.map(quote).join(" ");
}
