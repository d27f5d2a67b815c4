export { assertNoLeaks, findLeaks, type LeakScope } from "./leak-check.ts";
