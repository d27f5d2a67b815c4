import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import type { Sandbox } from "@deno/sandbox";

/** Something that a hostile program tries inside a sandbox, and what it must meet. */
export interface Attempt {
  /** A sentence about the behaviour that is expected. */
  readonly name: string;
  /** A Python expression; `attempts.py` defines what it can use. */
  readonly run: string;
  /** The errno, the signal or the value; exactly this, or text that fits. */
  readonly meets: string | RegExp;
}

const PROGRAM_PATH = "/tmp/attempts.py";
const LIST_PATH = "/tmp/attempts.json";

/** Carries out all expressions in one go, each in a process of its own, and returns what they met. */
export async function carryOut(
  sandbox: Sandbox,
  expressions: readonly string[],
  variables: Readonly<Record<string, string>> = {},
): Promise<readonly string[]> {
  await sandbox.fs.writeTextFile(PROGRAM_PATH, await readFile(join(import.meta.dirname, "attempts.py"), "utf8"));
  const timeoutSeconds = Math.ceil(testTimeoutMs(10_000) / 1000);
  await sandbox.fs.writeTextFile(LIST_PATH, JSON.stringify({ variables, expressions, timeoutSeconds }));
  const child = await sandbox.spawn("python3", {
    args: [PROGRAM_PATH, LIST_PATH],
    stdout: "piped",
    stderr: "piped",
  });
  const { status, stdoutText, stderrText } = await child.output();
  assert.ok(status.success && stdoutText !== null, `attempts.py failed: ${stderrText}`);
  return JSON.parse(stdoutText) as string[];
}

/** Defines a test for each attempt. Sandbox and variables are asked for when the first of them runs. */
export function testAttempts(
  attempts: readonly Attempt[],
  sandbox: () => Sandbox,
  variables: () => Readonly<Record<string, string>> = () => ({}),
): void {
  let outcomes: Promise<readonly string[]> | undefined;
  for (const [index, { name, run, meets }] of attempts.entries()) {
    test(name, async () => {
      outcomes ??= carryOut(
        sandbox(),
        attempts.map((attempt) => attempt.run),
        variables(),
      );
      const outcome = (await outcomes)[index];
      assert.ok(outcome !== undefined);
      if (typeof meets === "string") assert.equal(outcome, meets, run);
      else assert.match(outcome, meets, run);
    });
  }
}
