import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { Node, NodeDescription, NodeEvent } from "@caisson/node";
import type { CertificateRenewal } from "../src/certificate-renewal.ts";
import type { LinkedNode } from "../src/linked-node.ts";
import { NodeEvents } from "../src/node-events.ts";
import { type ServedNode, serveNode } from "../src/serve-node.ts";
import { type Installation, makeInstallation } from "./installation.ts";
import { linkTo } from "./link-to.ts";

export interface TestLinkOptions {
  readonly installation?: Installation;
  readonly takeEvent?: (event: NodeEvent) => Promise<void>;
  readonly events?: NodeEvents;
  readonly onStopping?: () => Promise<void>;
  readonly onDismissed?: (forgottenAt: string) => Promise<void>;
  readonly onExpelled?: () => void;
  readonly renewal?: CertificateRenewal;
  /** Of the node's row. Null: `begin` is left to the test. Default: 1. */
  readonly generation?: number | null;
}

/** A node, served and linked over loopback. */
export interface TestLink extends AsyncDisposable {
  readonly served: ServedNode;
  readonly link: LinkedNode;
  /** What was told, and not taken by the test itself. */
  readonly events: readonly NodeEvent[];
  /** Breaks the connection off under what is under way. Resolves when both sides have seen it. */
  cut(): Promise<void>;
  /** Resolves when it is connected, from now on. */
  connected(): Promise<NodeDescription>;
}

export async function openLink(node: Node, options: TestLinkOptions = {}): Promise<TestLink> {
  const { generation = 1 } = options;
  const installation = options.installation ?? (await makeInstallation());
  const served = await serveNode({
    node,
    events: options.events ?? new NodeEvents(),
    credentials: installation.node,
    ...(options.onDismissed === undefined ? {} : { onDismissed: options.onDismissed }),
    ...(options.onExpelled === undefined ? {} : { onExpelled: options.onExpelled }),
    ...(options.renewal === undefined ? {} : { renewal: options.renewal }),
    host: "127.0.0.1",
    port: 0,
    logger: { info() {}, warn() {} },
  });
  // What can be cut is a connection in between.
  const proxied = new Set<Socket>();
  const proxy = createServer((socket) => {
    const onward = connect({ port: served.port, host: "127.0.0.1" });
    for (const side of [socket, onward]) {
      proxied.add(side);
      side.on("error", () => {}).once("close", () => proxied.delete(side));
    }
    socket.pipe(onward).pipe(socket);
    socket.once("close", () => onward.destroy());
    onward.once("close", () => socket.destroy());
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const { port } = proxy.address() as AddressInfo;
  const told: NodeEvent[] = [];
  let connected = Promise.withResolvers<NodeDescription>();
  let lost = Promise.withResolvers<void>();
  const link = linkTo(port, installation.control, {
    takeEvent: options.takeEvent ?? (async (event) => void told.push(event)),
    ...(options.onStopping === undefined ? {} : { onStopping: options.onStopping }),
    onConnected(description) {
      connected.resolve(description);
      connected = Promise.withResolvers();
    },
    onLost() {
      lost.resolve();
      lost = Promise.withResolvers();
    },
  });
  const { runId } = await connected.promise;
  if (generation !== null) link.begin(runId, generation);
  return {
    served,
    link,
    events: told,
    async cut() {
      const seen = lost.promise;
      for (const socket of proxied) socket.destroy();
      await seen;
    },
    connected: () => connected.promise,
    async [Symbol.asyncDispose]() {
      await link[Symbol.asyncDispose]();
      await served[Symbol.asyncDispose]();
      proxy.close();
    },
  };
}
