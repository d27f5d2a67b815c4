import { keptPlaces, type SandboxPlaces } from "@caisson/database";
import type { SandboxLimitsConfig } from "../../config.ts";

/** So many sandboxes of an organization may take kept places. */
const KEPT_EACH = 2;

/** The places of one node. */
export interface NodePlaces extends SandboxPlaces {
  /** For all organizations together. */
  readonly total: number;
  readonly kept: number;
}

/** How many sandboxes may run on a node, and who may have the last places. `hostPlaces`: what its host has room for. */
export function sandboxPlaces(config: SandboxLimitsConfig, hostPlaces: number): NodePlaces {
  const total = Math.min(config.max, hostPlaces);
  return { ...sandboxLimits(config), total, kept: keptPlaces({ places: total }, config.keptPlaces) };
}

/** How many sandboxes an organization may run, and which of the places of any node are kept from it. */
export function sandboxLimits({ maxPerOrganization, keptPlaces: kept }: SandboxLimitsConfig): SandboxPlaces {
  return { perOrganization: maxPerOrganization, kept, keptEach: KEPT_EACH };
}
