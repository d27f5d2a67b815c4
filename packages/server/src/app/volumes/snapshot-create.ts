import type { Disk, NewDisk } from "@caisson/database";
import { runOperation, Step } from "@caisson/linux";
import { classOfId, type Labels, newId, requireLabels, requireSlug } from "@caisson/model";
import type { Node, SealedDisk, SealSpec } from "@caisson/node";
import { type Actor, type AppContext, requireDisk } from "../context.ts";
import { measureDisk } from "../disks/disk-measure.ts";
import { withRoom } from "../disks/room.ts";
import { measureUsage } from "../disks/usage.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { replicateByPolicy } from "../replication/replication-policy.ts";
import { rebuildIfRestored } from "../restored/volume-rebuild.ts";
import { findEarlier, hashRequest } from "./volume-create.ts";

export interface CreateSnapshotInput {
  readonly slug: string;
  readonly labels?: Labels | null;
}

/**
 * Takes a snapshot of a volume, attached or not.
 *
 * Intent: the row in `creating`, which takes the slug. Then the image is sealed: a writable attached volume is frozen for an instant of that only, and
 * thawed before the copy is made durable. Commit: the row is `ready`, with its event, which is the acknowledgement.
 *
 * A failure undoes as that of a volume's creation does; the volume goes on untouched. A crash leaves a row that the next start undoes; the freeze
 * goes with the mount.
 */
export async function createSnapshot(
  app: AppContext,
  actor: Actor,
  volumeIdOrSlug: string,
  input: CreateSnapshotInput,
  idempotencyKey?: string,
): Promise<Disk> {
  const slug = requireSlug(input.slug);
  const labels = requireLabels(input.labels ?? {});
  const source = await requireDisk(app, actor, "volume", volumeIdOrSlug);
  await rebuildIfRestored(app, source);
  const { id: volumeId } = source;
  const key =
    idempotencyKey === undefined
      ? undefined
      : { key: idempotencyKey, requestHash: hashRequest("snapshot", { ...input, volumeId }) };
  return app.locks.run(volumeId, async () => {
    const volume = await requireDisk(app, actor, "volume", volumeId);
    const { region } = volume;
    const at = app.nodes.of(volume);
    const snapshot: NewDisk = {
      kind: "snapshot",
      id: newId("snp", region, classOfId(volumeId)),
      owner: at.owner,
      organizationId: volume.organizationId,
      slug,
      region,
      capacityBytes: volume.capacityBytes,
      isBootable: volume.isBootable,
      // The less that it may be, until the node has said.
      consistency: "frozen",
      parent: { kind: "volume", id: volume.id, slug: volume.slug },
      baseSnapshot: volume.baseSnapshot,
      baseImageId: volume.baseImageId,
      labels,
      createdAtMs: Date.now(),
    };
    const seal = new Step("seal", {
      run: () => withRoom(app, at, region, () => sealDisk(app, at.node, { region, volumeId, snapshotId: snapshot.id })),
      async undo() {
        if (!app.nodes.isLost(at.owner.nodeId)) await at.node.deleteDisk({ region, id: snapshot.id });
      },
    });
    const record = await runOperation(app, {
      name: "snapshot-create",
      objectId: snapshot.id,
      intent: {
        async run() {
          const { existingId } = await app.store.disks.reserve(snapshot, key);
          return existingId === null ? null : findEarlier(app, existingId);
        },
        undo: () => app.store.disks.forget(snapshot.id, null),
      },
      steps: [seal],
      commit: {
        async run() {
          const { consistency } = seal.value;
          const event = auditEvent(actor, "snapshot-create", snapshot, { slug, volumeId, consistency });
          const usage = await measureDisk(at.node, snapshot, volume);
          return app.store.disks.commit(snapshot.id, { consistency, ...usage }, event);
        },
        withdraw: () => app.store.disks.withdraw(snapshot.id),
      },
    });
    await measureUsage(app, [volumeId]);
    return replicateByPolicy(app, record);
  });
}

async function sealDisk(app: AppContext, node: Node, seal: SealSpec): Promise<SealedDisk> {
  const startMs = performance.now();
  const sealed = await node.sealDisk(seal);
  const { volumeId, snapshotId } = seal;
  app.logger.debug(
    { volumeId, snapshotId, frozenMs: sealed.frozenMs, tookMs: performance.now() - startMs },
    "copied a volume",
  );
  return sealed;
}
