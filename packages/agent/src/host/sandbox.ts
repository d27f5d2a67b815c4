import type { Editors } from "../editor/editors.ts";
import type { Exposures } from "../network/exposures.ts";
import type { Environment } from "../processes/environment.ts";
import type { ProcessTable } from "../processes/process-table.ts";
import type { AgentMemory } from "./agent-memory.ts";
import type { Settings } from "./settings.ts";

/** What all connections of the sandbox share. */
export interface Sandbox {
  readonly environment: Environment;
  readonly processes: ProcessTable;
  readonly editors: Editors;
  readonly settings: Settings;
  readonly memory: AgentMemory;
  readonly exposures: Exposures;
}
