export { type Installation, makeInstallation, openLink, type TestLink, type TestLinkOptions } from "./open-link.ts";
export { partialNode } from "./partial-node.ts";
