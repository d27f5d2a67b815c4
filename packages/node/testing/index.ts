export { describeNodeConformance } from "./conformance.ts";
export { EchoRuntime } from "./echo-runtime.ts";
export { throughText } from "./plain-data.ts";
export { openTestNode, TEST_BASE_IMAGE, TEST_REGION, type TestNode } from "./test-node.ts";
