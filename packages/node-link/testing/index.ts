export {
  type Installation,
  makeInstallation,
  openLink,
  TEST_NODE_ID,
  type TestLink,
  type TestLinkOptions,
} from "./open-link.ts";
export { partialNode } from "./partial-node.ts";
