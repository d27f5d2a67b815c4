export { assertNoLeaks, findLeaks, type LeakScope } from "./leak-check.ts";
export { testTimeoutMs } from "./test-timeout.ts";
