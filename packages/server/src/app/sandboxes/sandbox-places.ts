import type { SandboxPlaces } from "@caisson/database";
import type { SandboxLimitsConfig } from "../../config.ts";

/** So many sandboxes of an organization may take kept places. */
const KEPT_EACH = 2;

/** The places of this server's node. */
export interface NodePlaces extends SandboxPlaces {
  /** For all organizations together. */
  readonly total: number;
}

/** How many sandboxes may run, and who may have the last places. `hostPlaces`: what the host has room for. */
export function sandboxPlaces(config: SandboxLimitsConfig, hostPlaces: number): NodePlaces {
  const total = Math.min(config.max, hostPlaces);
  const kept = Math.min(config.keptPlaces ?? Math.ceil(total / 10), total - 1);
  return { total, perOrganization: config.maxPerOrganization, kept, keptEach: KEPT_EACH };
}
