import type { AppContext } from "../context.ts";
import type { Disk } from "../records.ts";

/** Why volumes and snapshots cannot be used now, with what to do about it, although they are not lost: by id, of those that cannot. */
export async function findProblems(app: AppContext, disks: readonly Disk[]): Promise<ReadonlyMap<string, string>> {
  const problems = new Map<string, string>();
  const groups = Map.groupBy(disks, ({ owner, region }) => `${owner.nodeId} ${region}`);
  await Promise.all([...groups.values()].map((group) => findProblemsInPool(app, group, problems)));
  return problems;
}

/** Of disks of one region of one node. */
async function findProblemsInPool(
  app: AppContext,
  disks: readonly Disk[],
  problems: Map<string, string>,
): Promise<void> {
  const [first] = disks;
  if (first === undefined) return;
  const ids = disks.map(({ id }) => id);
  const places = (await app.nodes.find(first)?.node.placesOf(first.region, ids)) ?? [];
  for (const [index, disk] of disks.entries()) {
    const problem = app.nodes.problem(disk) ?? places[index]?.problem ?? null;
    if (problem !== null) problems.set(disk.id, problem);
  }
}
