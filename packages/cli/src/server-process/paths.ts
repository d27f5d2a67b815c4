import { fileURLToPath } from "node:url";

const root = new URL("../../../../", import.meta.url);

/** The server is a program of its own: the command line starts it and never imports it. */
export const PATHS = {
  setup: fileURLToPath(new URL("scripts/setup.sh", root)),
  isolate: fileURLToPath(new URL("scripts/isolate.sh", root)),
  buildAgent: fileURLToPath(new URL("packages/agent/build.ts", root)),
  server: fileURLToPath(new URL("packages/server/src/main.ts", root)),
} as const;
