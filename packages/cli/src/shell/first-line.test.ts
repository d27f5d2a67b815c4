import assert from "node:assert/strict";
import { test } from "node:test";
import { splitFirstLine } from "./first-line.ts";

async function split(...chunks: readonly string[]): Promise<[line: string, rest: string]> {
  const source = ReadableStream.from(chunks.map((chunk) => Buffer.from(chunk)));
  const { line, rest } = await splitFirstLine(source);
  return [line, await new Response(rest).text()];
}

test("the first line ends at its line end, wherever the chunks do, and nothing behind it is lost", async () => {
  assert.deepEqual(await split("/dev/pts/0\r\n$ "), ["/dev/pts/0", "$ "]);
  assert.deepEqual(await split("/dev", "/pts/0\r", "\n", "$ ", "more"), ["/dev/pts/0", "$ more"]);
  assert.deepEqual(await split("no line end"), ["no line end", ""]);
  assert.deepEqual(await split(), ["", ""]);
});
