export { DENO_PATH, TestAgent } from "./test-agent.ts";
