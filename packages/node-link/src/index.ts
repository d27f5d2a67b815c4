export { CONTROL_NAME, LINK_DOMAIN, type LinkCredentials, nodeName } from "./credentials.ts";
export { LinkedNode, type LinkedNodeOptions, type NodeAddress } from "./linked-node.ts";
export { NodeEvents } from "./node-events.ts";
export { type ServedNode, type ServeNodeOptions, serveNode } from "./serve-node.ts";
