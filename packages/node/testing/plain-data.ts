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

/** A connection, pieces that come, or what gives them. */
function isStream(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return value instanceof Duplex || Symbol.asyncIterator in value || Symbol.asyncDispose in value;
}

function passAsText(value: unknown): unknown {
  if (value === undefined || isStream(value)) return value;
  const passed: unknown = JSON.parse(JSON.stringify(value));
  assert.deepEqual(passed, value, "only plain data passes between a node and its callers");
  return passed;
}
