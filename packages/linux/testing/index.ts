export { endChild } from "./end-child.ts";
export { assertNoLeaks, findLeaks, type LeakScope } from "./leak-check.ts";
export { requireIsolation } from "./require-isolation.ts";
export { testTimeoutMs } from "./test-timeout.ts";
