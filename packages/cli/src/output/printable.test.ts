import assert from "node:assert/strict";
import { test } from "node:test";
import { printable, printableLines, toJsonLine } from "./printable.ts";

const HOSTILE = "a\u001b]0;title\u0007\u009b31mb\u202ec\u007f\r\n\td";

test("control characters and those that turn the text around are shown, not obeyed", () => {
  assert.equal(printable(HOSTILE), "a\\u001b]0;title\\u0007\\u009b31mb\\u202ec\\u007f\\u000d\\n\\td");
  assert.equal(printable("plain é 漢 🙂"), "plain é 漢 🙂");
  assert.equal(printableLines("one\ntwo\u001b"), "one\ntwo\\u001b");
});

test("a JSON line holds none of them, and still the same value", () => {
  const line = toJsonLine({ text: HOSTILE });
  assert.equal(line, printable(line));
  assert.deepEqual(JSON.parse(line), { text: HOSTILE });
});
