import { fileURLToPath } from "node:url";

/** The root of the project. The bundle (build.ts) stands as deep in it as this file. */
const root = new URL("../../../../", import.meta.url);

/** The server is a program of its own: the command line starts it and never imports it. */
export const PATHS = {
  launcher: fileURLToPath(new URL("caisson", root)),
  setup: fileURLToPath(new URL("scripts/setup.sh", root)),
  isolate: fileURLToPath(new URL("scripts/isolate.sh", root)),
  buildAgent: fileURLToPath(new URL("packages/agent/build.ts", root)),
  server: fileURLToPath(new URL("packages/server/src/main.ts", root)),
} as const;
