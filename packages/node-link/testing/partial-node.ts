import type { Node, NodeDescription } from "@caisson/node";

/** Of a node without regions. */
export const TEST_DESCRIPTION: NodeDescription = {
  runId: "run-1",
  regions: [],
  placeCount: 4,
  placeBound: null,
  labels: {},
  retriedWorkCount: 0,
};

/** A node of which only some calls are there; the others fail. */
export function partialNode(calls: Partial<Node>): Node {
  const described: Partial<Node> = { describe: async () => TEST_DESCRIPTION, ...calls };
  return new Proxy(described, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (member !== undefined) return member;
      return async () => {
        throw new Error(`the test's node has no ${String(name)}`);
      };
    },
  }) as Node;
}
