import assert from "node:assert/strict";
import { test } from "node:test";
import { GenerationGate } from "./generation-gate.ts";

test("a node lets in a server of the latest term, and an older one that does not say its term until another has led", () => {
  const gate = new GenerationGate("run");
  const admit = (term?: string) =>
    gate.admit({
      "caisson-run": "run",
      "caisson-generation": "1",
      ...(term === undefined ? {} : { "caisson-term": term }),
    });
  assert.deepEqual([admit(), admit(), admit("0")], [true, false, false]);
  assert.throws(() => admit("none"), { code: "NODE_UNAVAILABLE", message: /in which term/ });
  assert.deepEqual([admit("3"), admit("3")], [true, false]);
  for (const term of [undefined, "2"])
    assert.throws(() => admit(term), { code: "NODE_UNAVAILABLE", message: /a server of term 3 leads/ });
});
