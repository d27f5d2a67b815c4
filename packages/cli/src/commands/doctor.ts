import { execFile } from "node:child_process";
import { resolve } from "node:path";
import type { Command } from "commander";
import { asCalled } from "../called-as.ts";
import { CliError } from "../cli-error.ts";
import type { Context } from "../context.ts";
import { addExamples, addOutputOptions, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import { printable } from "../output/printable.ts";
import { wrapText } from "../output/table.ts";
import { PATHS } from "../server-process/paths.ts";

const STATUS_WIDTH = "warning".length;
const GAP = "  ";
const MIN_TEXT_WIDTH = 20;

/** One thing that the server looked at on this host. */
interface Check {
  readonly name: string;
  readonly status: "ok" | "warning" | "missing";
  /** What is there. */
  readonly found: string;
  /** What to do about it; `null` when nothing. */
  readonly remedy: string | null;
}

/** `caisson doctor`. */
export function addDoctorCommand(program: Command): void {
  const command = program
    .command("doctor")
    .description("Check this host: kernel, cgroups, container runtime, tools, disk, database, privileges")
    .option("--data <directory>", "the data directory to check (default: /var/lib/caisson)")
    .option("--config <file>", "the server's settings (default: caisson.toml in the data directory)")
    .action(
      run(async (context, { data, config }: { readonly data?: string; readonly config?: string }) => {
        const args = [
          "doctor",
          ...(data === undefined ? [] : ["--data", resolve(data)]),
          ...(config === undefined ? [] : ["--config", resolve(config)]),
        ];
        const checks = await runDoctor(args);
        report(context, checks);
        process.exitCode = checks.some(({ status }) => status === "missing") ? EXIT.failure : EXIT.ok;
      }),
    );
  addOutputOptions(command);
  addExamples(command, [["caisson doctor", "See what is there, what is missing and what to do"]]);
}

/** The server looks from the namespaces that it will live in. Where those cannot be made, it looks from here, and says why not. */
async function runDoctor(args: readonly string[]): Promise<readonly Check[]> {
  const inside = await capture(PATHS.isolate, [process.execPath, PATHS.server, ...args]);
  const checks = parseChecks(inside.stdout);
  if (checks !== null) return checks;
  const outside = await capture(process.execPath, [PATHS.server, ...args]);
  const fallback = parseChecks(outside.stdout);
  if (fallback !== null) return fallback;
  const message = `The host cannot be checked: ${outside.stderr.trim() || "the server printed nothing"}`;
  throw new CliError("DOCTOR_FAILED", EXIT.failure, message);
}

function capture(file: string, args: readonly string[]): Promise<{ readonly stdout: string; readonly stderr: string }> {
  return new Promise((resolveOutput) => {
    // A failure shows in what was not printed.
    execFile(file, args, (_error, stdout, stderr) => resolveOutput({ stdout, stderr }));
  });
}

function parseChecks(text: string): readonly Check[] | null {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? (value as Check[]) : null;
  } catch {
    return null;
  }
}

function report({ output }: Context, checks: readonly Check[]): void {
  const { green, yellow, red } = output.colors;
  const marks = { ok: green("ok"), warning: yellow("warning"), missing: red("missing") };
  if (output.isJson) {
    output.value("", { items: checks });
    return;
  }
  const nameWidth = Math.max(...checks.map(({ name }) => name.length));
  const indent = " ".repeat(STATUS_WIDTH + nameWidth + 2 * GAP.length);
  const textWidth = Math.max(MIN_TEXT_WIDTH, (process.stdout.columns ?? Number.POSITIVE_INFINITY) - indent.length);
  for (const { name, status, found, remedy } of checks) {
    if (output.isQuiet && status === "ok") continue;
    const [first = "", ...rest] = wrapText(printable(found), textWidth);
    output.text(
      `${marks[status]}${" ".repeat(STATUS_WIDTH - status.length)}${GAP}${name.padEnd(nameWidth)}${GAP}${first}`,
    );
    const advice = remedy === null ? [] : wrapText(printable(`→ ${asCalled(remedy)}`), textWidth);
    for (const line of [...rest, ...advice]) output.text(`${indent}${line}`);
  }
}
