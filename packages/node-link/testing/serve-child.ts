import { NodeEvents } from "../src/node-events.ts";
import { serveNode } from "../src/serve-node.ts";
import { partialNode } from "./partial-node.ts";

// A node in a process of its own, which a test can stop and kill. It tells its port on standard output, and ends with its standard input.
const credentials = JSON.parse(process.env.LINK_CREDENTIALS ?? "");
const served = await serveNode({
  node: partialNode({ prepare: async () => {}, makeRoom: () => new Promise(() => {}) }),
  events: new NodeEvents(),
  credentials,
  host: "127.0.0.1",
  port: 0,
  logger: { info() {}, warn() {} },
});
console.log(served.port);
process.stdin.resume().once("end", () => process.exit(0));
