export { STAND_IN_EDITOR } from "./stand-in-editor.ts";
export { DENO_PATH, TestAgent } from "./test-agent.ts";
