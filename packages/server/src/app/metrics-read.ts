import { validityOf } from "@caisson/node-link";
import { requireAdmin } from "./access/administrator.ts";
import type { Actor, AppContext } from "./context.ts";
import { waitingNodes } from "./nodes/authority-get.ts";
import type { ConnectedNode } from "./nodes/node-directory.ts";
import { within } from "./operations/within.ts";
import { usedPercent } from "./pool/pool-watch.ts";
import { sandboxPlaces } from "./sandboxes/sandbox-places.ts";

/** The longest that a scrape waits for a node. */
const LOOK_MS = 2_000;

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
  const descriptions = await Promise.all(nodes.map(({ node }) => within(LOOK_MS, node.describe()).catch(() => null)));
  const retried = descriptions.map((description) => description?.retriedWorkCount ?? 0);
  metrics.retriedWork.set(app.persistent.failingCount + sum(retried));
  // A gauge without labels that was reset says 0: no series is what there is then.
  metrics.backupAge.remove();
  const ageMs = app.backups.ageMs();
  if (ageMs !== null) metrics.backupAge.set(ageMs / 1000);
  await observeCertificates(app);
  await observeUploads(app);
  await observePools(app);
  return metrics.text();
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

async function observeCertificates({ metrics, store }: AppContext): Promise<void> {
  metrics.nodeCertificateUntil.reset();
  const nodes = await store.nodes.list();
  for (const { id: node, certificateUntilMs, lostAtMs } of nodes)
    if (certificateUntilMs !== null && lostAtMs === null)
      metrics.nodeCertificateUntil.set({ node }, certificateUntilMs / 1000);
  metrics.authorityUntil.remove();
  metrics.authorityWaitingNodes.remove();
  const believed = (await store.joining.authorities()).filter(({ privateKey }) => privateKey !== null);
  const newest = believed.at(-1);
  if (newest === undefined) return;
  metrics.authorityUntil.set(validityOf(newest.certificate).untilMs / 1000);
  if (believed.length > 1) metrics.authorityWaitingNodes.set(waitingNodes(nodes, newest.number).length);
}

async function observeUploads({ metrics, store, snapshotStore, replicator }: AppContext): Promise<void> {
  metrics.replicationWaitingAge.remove();
  metrics.replicationLast.remove();
  metrics.keyRotationAge.remove();
  if (snapshotStore === null) return;
  const { waiting, failing, oldestAtMs } = await store.snapshotStore.uploadTotals();
  metrics.replicationWaiting.set({ state: "all" }, waiting);
  metrics.replicationWaiting.set({ state: "failing" }, failing);
  metrics.replicationWaitingAge.set(oldestAtMs === null ? 0 : Math.max(0, Date.now() - oldestAtMs) / 1000);
  const { keyRotation } = await store.snapshotStore.get();
  metrics.keyRotationAge.set(keyRotation === null ? 0 : Math.max(0, Date.now() - keyRotation.sinceMs) / 1000);
  if (replicator.lastUploadAtMs !== null) metrics.replicationLast.set(replicator.lastUploadAtMs / 1000);
}

async function observePools({ metrics, nodes, store }: AppContext): Promise<void> {
  const totals = await store.disks.totals();
  const pools = await Promise.all(nodes.all().map(capacitiesOf));
  // What there is none of any more, and a node that does not answer, is not among them. `PoolWatch` keeps and ends the threshold itself.
  for (const gauge of [
    metrics.disks,
    metrics.poolSize,
    metrics.poolUsed,
    metrics.poolFree,
    metrics.poolAvailable,
    metrics.poolHeadroom,
    metrics.poolUsedRatio,
    metrics.poolReclaimable,
    metrics.poolDiskUsable,
    metrics.poolDiskSize,
    metrics.poolDiskAvailable,
  ])
    gauge.reset();
  for (const { nodeId: node, region, kind, state, count } of totals)
    metrics.disks.set({ node, region, kind, state }, count);
  for (const { node, region, capacity } of pools.flat()) {
    const pool = { node, region };
    const deleted = totals.filter(
      (total) => total.nodeId === node && total.region === region && total.state === "deleted",
    );
    metrics.poolSize.set(pool, capacity.totalBytes);
    metrics.poolUsed.set(pool, Math.max(0, capacity.totalBytes - capacity.freeBytes));
    metrics.poolFree.set(pool, capacity.freeBytes);
    metrics.poolAvailable.set(pool, capacity.availableBytes);
    metrics.poolHeadroom.set(pool, capacity.headroomBytes);
    metrics.poolUsedRatio.set(pool, usedPercent(capacity) / 100);
    metrics.poolReclaimable.set(pool, sum(deleted.map(({ exclusiveBytes }) => exclusiveBytes)));
    for (const { directory, problem, totalBytes, availableBytes } of capacity.disks) {
      metrics.poolDiskUsable.set({ ...pool, directory }, problem === null ? 1 : 0);
      metrics.poolDiskSize.set({ ...pool, directory }, totalBytes);
      metrics.poolDiskAvailable.set({ ...pool, directory }, availableBytes);
    }
  }
}

/** Of the pools of a node that can be looked at soon. */
async function capacitiesOf({ owner, node, regions }: ConnectedNode) {
  const found = await Promise.all(
    [...regions.keys()].map(async (region) => {
      const capacity = await within(LOOK_MS, node.poolCapacity(region)).catch(() => null);
      return capacity === null ? [] : [{ node: owner.nodeId, region, capacity }];
    }),
  );
  return found.flat();
}
