import type { AppContext } from "../context.ts";
import { within } from "../operations/within.ts";
import type { Disk } from "../records.ts";

/** The longest that a list waits for a pool: a node that does not answer must not keep it from showing what others have. */
const LOOK_MS = 5_000;

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
  const connected = app.nodes.find(first);
  const places =
    connected === null
      ? []
      : await within(LOOK_MS, connected.node.placesOf(first.region, ids)).catch((error: unknown) => {
          app.logger.warn({ err: error, nodeId: first.owner.nodeId, region: first.region }, "cannot look at a pool");
          return null;
        });
  for (const [index, disk] of disks.entries()) {
    const { id, owner } = disk;
    const unknown =
      places === null ? `Nobody knows whether ${id} can be used: node ${owner.nodeId} does not say. Try again` : null;
    const problem = app.nodes.problem(disk) ?? unknown ?? places?.[index]?.problem ?? null;
    if (problem !== null) problems.set(id, problem);
  }
}
