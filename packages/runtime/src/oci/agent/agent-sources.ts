import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { AgentSources } from "./agent-bundle.ts";

/** Where the parts of the agent are, unless somebody says otherwise: in this workspace, and an init of the host's. */
export function agentSources(given: { readonly [Name in keyof AgentSources]?: string | undefined } = {}): AgentSources {
  return {
    agentPath: given.agentPath ?? fileURLToPath(new URL("../../../../agent/dist/agent.js", import.meta.url)),
    denoPath: given.denoPath ?? findDeno(),
    tiniPath: given.tiniPath ?? "/usr/bin/tini-static",
  };
}

/** The program behind the `deno` package, which the package itself puts beside its entry point. */
function findDeno(): string {
  return join(dirname(createRequire(import.meta.url).resolve("deno/package.json")), "deno");
}
