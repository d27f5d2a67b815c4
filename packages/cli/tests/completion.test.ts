import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { COMPLETION_SCRIPTS } from "../src/completion/scripts.ts";
import { CAISSON } from "./support/run-caisson.ts";

const run = promisify(execFile);

let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), "caisson-cli-completion-"));
  // The shells call the command by the name that was typed.
  await writeFile(join(directory, "caisson"), `#!/bin/sh\nexec ${CAISSON.map((word) => `'${word}'`).join(" ")} "$@"\n`);
  await chmod(join(directory, "caisson"), 0o755);
  await writeFile(join(directory, "caisson.bash"), COMPLETION_SCRIPTS.bash);
  await writeFile(join(directory, "caisson.fish"), COMPLETION_SCRIPTS.fish);
  await writeFile(join(directory, "_caisson"), COMPLETION_SCRIPTS.zsh);
});
after(() => rm(directory, { recursive: true, force: true }));

const environment = () => ({ PATH: `${directory}:${process.env.PATH}`, HOME: directory });

/** Words that a line offers in bash. */
async function inBash(...words: readonly string[]): Promise<string[]> {
  const script = `. ${directory}/caisson.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _caisson 2>/dev/null; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout } = await run("bash", ["--norc", "-c", script, "bash", "caisson", ...words], { env: environment() });
  return stdout.split("\n").filter(Boolean);
}

test("bash completes commands, their options and the shells", async () => {
  assert.deepEqual(await inBash("vol"), ["volumes"]);
  assert.deepEqual(await inBash("volumes", "de"), ["delete", "deleted"]);
  assert.deepEqual(await inBash("volume", "create", "--ca"), ["--capacity"]);
  assert.deepEqual(await inBash("--json", "lis"), ["list"]);
  assert.deepEqual(await inBash("completion", ""), ["bash", "zsh", "fish"]);
});

test("bash completes nothing where a value of an option is due, or a name without a server", async () => {
  assert.deepEqual(await inBash("volumes", "create", "--capacity", ""), []);
  assert.deepEqual(await inBash("volumes", "get", ""), []);
});

test("fish shows the descriptions beside the words", async (context) => {
  if (!(await isInstalled("fish"))) return context.skip("fish is not installed");
  const script = `source ${directory}/caisson.fish; complete -C 'caisson volumes g'`;
  const { stdout } = await run("fish", ["--no-config", "-c", script], { env: environment() });
  assert.deepEqual(stdout.split("\n").filter(Boolean), [
    "get\tShow one volume",
    "grow\tMake a volume larger; no sandbox may hold it meanwhile",
  ]);
});

test("zsh loads the script without a complaint and defines the completion", async (context) => {
  if (!(await isInstalled("zsh"))) return context.skip("zsh is not installed");
  const script = `autoload -Uz compinit; compinit -u -d ${directory}/dump; . ${directory}/_caisson; print $_comps[caisson]`;
  const { stdout, stderr } = await run("zsh", ["-f", "-c", script], { env: environment() });
  assert.deepEqual({ stdout, stderr }, { stdout: "_caisson\n", stderr: "" });
});

async function isInstalled(shell: string): Promise<boolean> {
  return run(shell, ["-c", "true"]).then(
    () => true,
    () => false,
  );
}
