import { spawn } from "node:child_process";
import { CAISSON, type Environment, finish } from "./run-caisson.ts";

/** What a reader that takes a line at a time got, and how the command ended. */
export interface SlowlyRead {
  readonly lines: number;
  readonly last: string;
  readonly code: number;
}

/** Runs a command whose output a shell reads line by line, a byte at a time: much slower than any command prints. */
export async function pipeThroughSlowReader(
  words: readonly string[],
  environment: Environment,
  output: "stdout" | "stderr" = "stdout",
): Promise<SlowlyRead> {
  const script = `"$@" ${output === "stderr" ? "2>&1 >/dev/null" : ""} </dev/null | (
    count=0
    while IFS= read -r line; do last=$line; count=$((count + 1)); done
    printf '%s\\n%s' "$count" "$last"
  )
  printf '\\n%s' "\${PIPESTATUS[0]}"`;
  const child = spawn("bash", ["-c", script, "bash", ...CAISSON, ...words], {
    env: { PATH: process.env.PATH ?? "", ...environment },
  });
  const { stdout } = await finish(child);
  const [lines, last = "", code] = stdout.split("\n");
  return { lines: Number(lines), last, code: Number(code) };
}
