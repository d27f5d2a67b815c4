import type { Row } from "./records.ts";
import type { NewSandbox, ReserveOutcome, SandboxPlaces } from "./store.ts";

/**
 * Whether a sandbox is refused, by the row of its node and the limits; null: it is not. `live`: how many its organization has on all nodes.
 */
export function refuseSandbox(
  node: Row,
  sandbox: NewSandbox,
  places: SandboxPlaces,
  live: number,
  countOrganizations: () => number,
): ReserveOutcome | null {
  if (node.is_draining === true || node.is_draining === 1) return { kind: "draining" };
  if (live >= places.perOrganization) return { kind: "limit", live };
  const free = Number(node.places) - Number(node.reserved_places);
  if (free <= 0) return { kind: "full", isKept: false };
  if (free <= places.kept && live >= places.keptEach && countOrganizations() > 1) return { kind: "full", isKept: true };
  const freeMib = node.memory_mib === null ? Infinity : Number(node.memory_mib) - Number(node.reserved_memory_mib);
  return sandbox.memoryMib > freeMib ? { kind: "memory", freeMib: Math.max(0, freeMib) } : null;
}
