import assert from "node:assert/strict";
import { Duplex } from "node:stream";
import type { Node } from "../src/node.ts";

/** The node as it is when every argument and every result has to pass as text: what does not come out as it went in fails. */
export function throughText(node: Node): Node {
  return new Proxy(node, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== "function") return member;
      return (...values: readonly unknown[]) => {
        const passed = values.map((value) => (value instanceof AbortSignal ? value : passAsText(value)));
        const result: unknown = member.apply(target, passed);
        return result instanceof Promise ? result.then(passAsText) : passAsText(result);
      };
    },
  });
}

function passAsText(value: unknown): unknown {
  if (value === undefined || value instanceof Duplex) return value;
  const passed: unknown = JSON.parse(JSON.stringify(value));
  assert.deepEqual(passed, value, "only plain data passes between a node and its callers");
  return passed;
}
