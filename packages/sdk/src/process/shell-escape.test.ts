import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import fc from "fast-check";
import { escapeShellArgument, shellText } from "./shell-escape.ts";

test("harmless words stay as they are, and everything else is quoted", () => {
  assert.equal(escapeShellArgument("/a/b-c_d.e"), "/a/b-c_d.e");
  assert.equal(escapeShellArgument(42), "42");
  assert.equal(escapeShellArgument(""), "''");
  assert.equal(escapeShellArgument(null), "''");
  assert.equal(escapeShellArgument(undefined), "''");
  assert.equal(escapeShellArgument("y'z"), `'y'"'"'z'`);
  assert.equal(escapeShellArgument("a\\b"), "'a\\b'");
});

test("a template takes values as words and arrays as several", () => {
  assert.equal(shellText(["echo ", " ", ""], ["a b", ["x", "y'z"]]), `echo 'a b' x 'y'"'"'z'`);
  assert.throws(() => shellText(["", ""], [{}]), TypeError);
  assert.throws(() => shellText(["", ""], [[["nested"]]]), TypeError);
});

test("bash reads exactly the values that were given, whatever they contain", () => {
  const word = fc
    .string({ unit: "binary", maxLength: 20 })
    .filter((text) => !text.includes("\0") && text.isWellFormed());
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 5 }), (words) => {
      const output = execFileSync("bash", ["-c", shellText(["printf '%s\\0' ", ""], [words])], { encoding: "utf8" });
      assert.deepEqual(output.split("\0").slice(0, -1), words);
    }),
    { numRuns: 100 },
  );
});
