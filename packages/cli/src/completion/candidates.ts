import type { Command, Option } from "commander";
import { kindOfArgument, type NameKind } from "./names.ts";

/** What may be typed next. */
export interface Candidates {
  readonly words: readonly Candidate[];
  /** The shell completes names of files itself. */
  readonly isFile: boolean;
  /** The server is asked for names of this kind. */
  readonly names: NameKind | null;
}

export interface Candidate {
  readonly value: string;
  readonly description: string;
}

const SHELLS = ["bash", "zsh", "fish"] as const;
const NOTHING: Candidates = { words: [], isFile: false, names: null };
const FILES: Candidates = { ...NOTHING, isFile: true };

/** Options whose value is a path. */
const PATH_OPTIONS = new Set(["--config", "--data", "--copy", "--directory", "--key", "--ca"]);

/** Commands with arguments that are paths. */
const FILE_COMMANDS = new Set(["copy", "export", "import"]);

/** What may follow the words that were typed; the last of them is the one being completed, and may be empty. */
export function findCandidates(program: Command, typed: readonly string[]): Candidates {
  const words = typed.slice(0, -1);
  const current = typed.at(-1) ?? "";
  const { command, pending, argumentCount } = walk(program, words);
  if (pending !== null) return PATH_OPTIONS.has(pending.long ?? "") ? FILES : NOTHING;
  if (current.startsWith("-")) return matching(command.options.flatMap(optionCandidate), current);
  if (command.commands.length > 0)
    return argumentCount > 0 ? NOTHING : matching(command.commands.flatMap(commandCandidates), current);
  if (command.name() === "completion")
    return matching(
      SHELLS.map((value) => ({ value, description: "" })),
      current,
    );
  if (command.name() === "help") return matching(program.commands.flatMap(commandCandidates), current);
  const names = argumentCount === 0 ? kindOfArgument(command.parent?.name(), command.name()) : null;
  return { ...(FILE_COMMANDS.has(command.name()) ? FILES : NOTHING), names };
}

/** Follows the words down the tree of commands. `pending` is an option that still waits for its value. */
function walk(program: Command, words: readonly string[]) {
  let command = program;
  let pending: Option | null = null;
  let argumentCount = 0;
  for (const word of words) {
    if (pending !== null) {
      pending = null;
    } else if (word.startsWith("-")) {
      const option = command.options.find(({ long, short }) => long === word || short === word);
      pending = option !== undefined && (option.required || option.optional) ? option : null;
    } else {
      const child = command.commands.find((candidate) => [candidate.name(), ...candidate.aliases()].includes(word));
      if (child === undefined) argumentCount += 1;
      else command = child;
    }
  }
  return { command, pending, argumentCount };
}

function commandCandidates(command: Command): Candidate[] {
  return isHidden(command) ? [] : [{ value: command.name(), description: command.description() }];
}

function optionCandidate({ long, description, hidden }: Option): Candidate[] {
  return hidden || long === undefined || long === null ? [] : [{ value: long, description }];
}

/** Commands that are not for people start with two underscores. */
function isHidden(command: Command): boolean {
  return command.name().startsWith("__");
}

function matching(words: readonly Candidate[], prefix: string): Candidates {
  return { ...NOTHING, words: words.filter(({ value }) => value.startsWith(prefix)) };
}
