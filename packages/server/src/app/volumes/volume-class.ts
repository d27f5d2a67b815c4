import { CaissonError, type DiskClass } from "@caisson/model";
import type { AppContext } from "../context.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";

/** Whether disks of the class can be made there. */
export function hasClass({ regions }: Pick<ConnectedNode, "regions">, region: string, diskClass: DiskClass): boolean {
  return diskClass === "local" || regions.get(region)?.hasReplicated === true;
}

/** Nodes of the region, of those that can be reached, on which no disk of the class can be made. Throws `INVALID_REQUEST` where it can on none. */
export function nodesWithoutClass(
  { nodes }: Pick<AppContext, "nodes">,
  region: string,
  diskClass: DiskClass,
): readonly string[] {
  const all = nodes.inRegion(region);
  const without = all.filter((at) => !hasClass(at, region, diskClass));
  if (without.length < all.length) return without.map(({ owner }) => owner.nodeId);
  throw new CaissonError(
    "INVALID_REQUEST",
    `Region ${region} has no replicated pool: create the volume with the class "local", or have an administrator name a pool under "[replicated]" in caisson.toml and start the server again`,
  );
}
