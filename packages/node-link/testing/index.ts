export { type Installation, makeInstallation, TEST_NODE_ID } from "./installation.ts";
export { linkTo, problemOf, serveTestNode } from "./link-to.ts";
export { openLink, type TestLink, type TestLinkOptions } from "./open-link.ts";
export { partialNode, TEST_DESCRIPTION } from "./partial-node.ts";
