import { describeNodeConformance, openTestNode, type TestNode } from "@caisson/node/testing";
import { openLink } from "../testing/index.ts";
import { NodeEvents } from "./node-events.ts";

describeNodeConformance("over a connection", openLinkedTestNode, (node) => node);

async function openLinkedTestNode(): Promise<TestNode> {
  const events = new NodeEvents();
  const host = await openTestNode({ deliver: events.take });
  const link = await openLink(host.node, { events });
  return {
    node: link.link,
    runtime: host.runtime,
    events: link.events,
    async [Symbol.asyncDispose]() {
      await link[Symbol.asyncDispose]();
      await host[Symbol.asyncDispose]();
    },
  };
}
