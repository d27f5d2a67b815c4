import { readFileSync } from "node:fs";
import { relative } from "node:path";
import { after } from "node:test";
import { isMainThread } from "node:worker_threads";

/**
 * Loaded before each test file into its process (test.sh). A listener, a connection or a server that a failed test has left open would keep that process
 * from ending, and the suite with it. So three minutes after the last test this fails the file, says what is still open, and ends it with the programs that it
 * has started.
 */
const END_TIMEOUT_MS = Number(process.env.CAISSON_TEST_END_TIMEOUT_MS ?? 180_000);
/** What the line begins with that test-report.ts passes on. */
export const STILL_OPEN = "failed: still open after the last test";

const file = process.argv[1] ?? "";
// The one that runs the files is started with this too, as are threads of a test and programs that it forks.
if (process.env.NODE_TEST_CONTEXT !== undefined && isMainThread && file.endsWith(".test.ts"))
  after(() => {
    setTimeout(failAndEnd, END_TIMEOUT_MS).unref();
  });

function failAndEnd(): void {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").split(" ").filter(Boolean);
  const kinds = [...new Set(process.getActiveResourcesInfo())];
  const open = [...kinds, ...children.map(commandOf)].join(", ");
  console.error(`${STILL_OPEN} (${relative(process.cwd(), file)}): ${open}`);
  for (const pid of children) process.kill(Number(pid), "SIGKILL");
  process.exit(1);
}

function commandOf(pid: string): string {
  return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
}
