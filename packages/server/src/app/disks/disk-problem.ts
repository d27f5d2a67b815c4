import { type AppContext, regionProblem } from "../context.ts";
import type { Disk } from "../records.ts";

/** Why volumes and snapshots cannot be used now, with what to do about it, although they are not lost: by id, of those that cannot. */
export async function findProblems(app: AppContext, disks: readonly Disk[]): Promise<ReadonlyMap<string, string>> {
  const problems = new Map<string, string>();
  for (const [region, group] of Map.groupBy(disks, (disk) => disk.region)) {
    const places = app.regions.has(region)
      ? await app.node.placesOf(
          region,
          group.map(({ id }) => id),
        )
      : [];
    for (const [index, disk] of group.entries()) {
      const problem = regionProblem(app, disk) ?? places[index]?.problem ?? null;
      if (problem !== null) problems.set(disk.id, problem);
    }
  }
  return problems;
}
