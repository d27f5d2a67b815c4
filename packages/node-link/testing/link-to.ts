import type { Node } from "@caisson/node";
import type { LinkCredentials } from "../src/credentials.ts";
import { LinkedNode, type LinkedNodeOptions } from "../src/linked-node.ts";
import { NodeEvents } from "../src/node-events.ts";
import { type ServedNode, serveNode } from "../src/serve-node.ts";
import { TEST_NODE_ID } from "./installation.ts";
import { partialNode } from "./partial-node.ts";

const SILENT = { info() {}, warn() {} };

/** A node that other credentials than those of its installation may be given to. */
export function serveTestNode(credentials: LinkCredentials, node: Node = partialNode({})): Promise<ServedNode> {
  return serveNode({ node, events: new NodeEvents(), credentials, host: "127.0.0.1", port: 0, logger: SILENT });
}

/** A link to whatever listens at a port of this host. */
export function linkTo(
  port: number,
  credentials: LinkCredentials | readonly LinkCredentials[],
  options: Partial<LinkedNodeOptions> = {},
): LinkedNode {
  return new LinkedNode({
    nodeId: TEST_NODE_ID,
    address: async () => ({ host: "127.0.0.1", port }),
    credentials: async () => [credentials].flat(),
    term: 0,
    takeEvent: async () => {},
    onStopping: async () => {},
    onConnected: () => {},
    onLost: () => {},
    logger: SILENT,
    ...options,
  });
}

/** Tries to connect, and resolves to why that failed, or to null. */
export async function problemOf(
  port: number,
  credentials: LinkCredentials | readonly LinkCredentials[],
  nodeId = TEST_NODE_ID,
): Promise<string | null> {
  const told = Promise.withResolvers<string | null>();
  await using _link = linkTo(port, credentials, {
    nodeId,
    onConnected: () => told.resolve(null),
    logger: { info() {}, warn: (details) => told.resolve(String((details as { reason?: string }).reason)) },
  });
  return await told.promise;
}
