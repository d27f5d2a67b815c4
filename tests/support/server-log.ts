import { appendFileSync } from "node:fs";
import { basename, join } from "node:path";

let count = 0;

/**
 * Where the lines that a server logs go so that a failing test can show them: appends each with its time to a file that is named after the
 * test's file and lies in CAISSON_TEST_LOGS (scripts/test-report.ts). Without that variable it does nothing.
 */
export function openServerLog(): (line: string) => void {
  const directory = process.env.CAISSON_TEST_LOGS;
  if (directory === undefined) return () => {};
  count += 1;
  const path = join(directory, `${basename(process.argv[1] ?? "")}.${process.pid}.${count}`);
  return (line) => appendFileSync(path, `${new Date().toISOString()} ${line}\n`);
}
