import type { Command } from "commander";

/** Every command that people can type, with the words that lead to it. */
export function* walkCommands(
  command: Command,
  path = command.name(),
): Generator<{ readonly path: string; readonly command: Command }> {
  yield { path, command };
  for (const child of command.commands) {
    if (!child.name().startsWith("__")) yield* walkCommands(child, `${path} ${child.name()}`);
  }
}
