export { describeRuntimeConformance } from "./conformance.ts";
export type { TestHost } from "./harness.ts";
export { RUNTIME_CACHE } from "./test-host.ts";
export { TestInternet, WORLD } from "./test-internet.ts";
export { isInPrivateNetwork } from "./test-private-network.ts";
