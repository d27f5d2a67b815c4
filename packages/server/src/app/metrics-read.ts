import { requireAdmin } from "./access/administrator.ts";
import type { Actor, AppContext } from "./context.ts";
import { usedPercent } from "./pool/pool-watch.ts";
import { sandboxPlaces } from "./sandboxes/sandbox-places.ts";

/**
 * The server's figures in the Prometheus text format. Throws `FORBIDDEN` unless the actor may administer the server, since they tell about all
 * organizations. It takes a few milliseconds however many volumes there are: nothing is measured for it.
 */
export async function readMetrics(app: AppContext, actor: Actor): Promise<string> {
  requireAdmin(actor, "read the metrics");
  const { metrics } = app;
  for (const [state, count] of Object.entries(app.live.counts())) metrics.sandboxes.set({ state }, count);
  const nodes = app.nodes.all();
  const places = nodes.map((at) => sandboxPlaces(app.config.sandboxes, at.places.placeCount).total);
  metrics.sandboxPlaces.set(sum(places));
  const descriptions = await Promise.all(nodes.map(({ node }) => node.describe()));
  metrics.retriedWork.set(app.persistent.failingCount + sum(descriptions.map((node) => node.retriedWorkCount)));
  await observePools(app);
  return metrics.text();
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

async function observePools({ metrics, nodes, store }: AppContext): Promise<void> {
  const totals = await store.disks.totals();
  // What there is none of any more is not among the totals.
  metrics.disks.reset();
  for (const { region, kind, state, count } of totals) metrics.disks.set({ region, kind, state }, count);
  for (const { node, regions } of nodes.all())
    for (const region of regions.keys()) {
      const capacity = await node.poolCapacity(region);
      const deleted = totals.filter((total) => total.region === region && total.state === "deleted");
      metrics.poolSize.set({ region }, capacity.totalBytes);
      metrics.poolUsed.set({ region }, Math.max(0, capacity.totalBytes - capacity.freeBytes));
      metrics.poolFree.set({ region }, capacity.freeBytes);
      metrics.poolAvailable.set({ region }, capacity.availableBytes);
      metrics.poolHeadroom.set({ region }, capacity.headroomBytes);
      metrics.poolUsedRatio.set({ region }, usedPercent(capacity) / 100);
      for (const { directory, problem, totalBytes, availableBytes } of capacity.disks) {
        metrics.poolDiskUsable.set({ region, directory }, problem === null ? 1 : 0);
        metrics.poolDiskSize.set({ region, directory }, totalBytes);
        metrics.poolDiskAvailable.set({ region, directory }, availableBytes);
      }
      metrics.poolReclaimable.set({ region }, sum(deleted.map(({ exclusiveBytes }) => exclusiveBytes)));
    }
}
