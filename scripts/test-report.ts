import { readdir, readFile } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import type { EventData } from "node:test";
import type { TestEvent } from "node:test/reporters";
import { STILL_OPEN } from "./test-end.ts";

/** A server may log the cause a moment before the test that it fails begins. */
const MARGIN_MS = 2_000;
const LOG_LINES = 80;

/**
 * A reporter beside the usual one, for what must not be lost in pages of output: each failed test with what the servers of its file logged
 * meanwhile (tests/support/server.ts writes it to CAISSON_TEST_LOGS), each file that did not end by itself, and each skipped test with its reason.
 */
export default async function* report(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of source) {
    if (event.type === "test:stderr" && event.data.message.startsWith(STILL_OPEN)) yield event.data.message;
    if (event.type === "test:fail") yield* describeFailure(event.data);
    if (event.type === "test:pass" && event.data.skip !== undefined) {
      const reason = event.data.skip === true ? "no reason given" : event.data.skip;
      yield `skipped: ${nameOf(event.data)}: ${reason}\n`;
    }
  }
}

async function* describeFailure(test: EventData.TestFail): AsyncGenerator<string> {
  const { error, duration_ms: durationMs } = test.details;
  // A suite fails with each of its tests, and these say why.
  if ("failureType" in error && error.failureType === "subtestsFailed") return;
  const nowMs = Date.now();
  const reason = error.cause instanceof Error ? error.cause.message : error.message;
  yield `failed: ${nameOf(test)}: ${reason.split("\n")[0]}\n`;
  for (const line of await serverLog(test.file, nowMs - durationMs - MARGIN_MS)) yield `  server: ${line}\n`;
}

function nameOf({
  name,
  file,
  line,
}: {
  readonly name: string;
  readonly file?: string;
  readonly line?: number;
}): string {
  return file === undefined ? name : `${name} (${relative(process.cwd(), file)}:${line})`;
}

/** What the servers of a test file have logged since then, the newest lines of each. */
async function serverLog(file: string | undefined, sinceMs: number): Promise<readonly string[]> {
  const directory = process.env.CAISSON_TEST_LOGS;
  if (directory === undefined || file === undefined) return [];
  const names = (await readdir(directory)).filter((name) => name.startsWith(`${basename(file)}.`)).sort();
  const logs = await Promise.all(names.map((name) => readFile(join(directory, name), "utf8")));
  const since = new Date(sinceMs).toISOString();
  return logs.flatMap((text) =>
    text
      .split("\n")
      .filter((line) => line > since)
      .slice(-LOG_LINES),
  );
}
