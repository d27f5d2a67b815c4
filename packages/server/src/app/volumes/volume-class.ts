import { CaissonError, type DiskClass } from "@caisson/model";
import type { AppContext } from "../context.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";

/** Whether disks of the class can be made there. */
export function hasClass({ regions }: Pick<ConnectedNode, "regions">, region: string, diskClass: DiskClass): boolean {
  return diskClass === "local" || regions.get(region)?.hasReplicated === true;
}

/**
 * Nodes of the region, of those that can be reached, on which no disk of the class can be made now. Throws where it can on none: `INVALID_REQUEST` when the settings of none name a
 * replicated pool, and `DISK_UNAVAILABLE` when none can use the one that it has. `id`: of the disk.
 */
export async function nodesWithoutClass(
  { nodes }: Pick<AppContext, "nodes">,
  { region, id }: { readonly region: string; readonly id: string },
  diskClass: DiskClass,
): Promise<readonly string[]> {
  if (diskClass === "local") return [];
  const all = nodes.inRegion(region);
  const having = all.filter((at) => hasClass(at, region, diskClass));
  if (having.length === 0) {
    throw new CaissonError(
      "INVALID_REQUEST",
      `Region ${region} has no replicated pool: create the volume with the class "local", or have an administrator name a pool under "[replicated]" in caisson.toml and start the server again`,
    );
  }
  const places = await Promise.all(having.map(({ node }) => node.placesOf(region, [id])));
  const usable = having.filter((_, index) => places[index]?.[0]?.problem === null);
  if (usable.length === 0) {
    const problem = places[0]?.[0]?.problem;
    throw new CaissonError("DISK_UNAVAILABLE", `Cannot create a replicated volume in region ${region}: ${problem}`);
  }
  return all.filter((at) => !usable.includes(at)).map(({ owner }) => owner.nodeId);
}
