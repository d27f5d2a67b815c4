import type { Disk, NewDisk, Owner } from "@caisson/database";
import { runOperation, Step } from "@caisson/linux";
import { classOfId, type Labels, newId, requireLabels, requireSlug } from "@caisson/model";
import type { Node, SealedDisk, SealSpec } from "@caisson/node";
import { type Actor, type AppContext, requireDisk } from "../context.ts";
import { forgetUnmade } from "../disks/disk-forget.ts";
import { measureDisk } from "../disks/disk-measure.ts";
import { takeOverIfLost } from "../disks/disk-take-over.ts";
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
  const source = await takeOverIfLost(app, await requireDisk(app, actor, "volume", volumeIdOrSlug));
  await rebuildIfRestored(app, source);
  const { id: volumeId } = source;
  const key =
    idempotencyKey === undefined
      ? undefined
      : { key: idempotencyKey, requestHash: hashRequest("snapshot", { ...input, volumeId }) };
  return app.locks.run(volumeId, async () => {
    const volume = await requireDisk(app, actor, "volume", volumeId);
    const record = await takeSnapshot<Disk>(app, actor, volume, {
      ...{ name: "snapshot-create", slug, labels, isRoomMade: true },
      async reserve(snapshot) {
        const { existingId } = await app.store.disks.reserve(snapshot, key);
        return existingId === null ? null : findEarlier(app, existingId);
      },
    });
    return replicateByPolicy(app, record);
  });
}

/** What differs between snapshots that somebody asks for and those of schedules. */
export interface SnapshotRequest<T> {
  /** The operation, for the fault tags. */
  readonly name: string;
  readonly slug: string;
  readonly labels: Labels;
  /** Whether a full pool may let go of what was deleted in it. */
  readonly isRoomMade: boolean;
  /** Records the intent. Resolves to a result when there is nothing to do. */
  readonly reserve: (snapshot: NewDisk & { readonly owner: Owner }) => Promise<T | null>;
}

/** The operation that `createSnapshot` describes. The caller holds the volume's lock. Without an actor it is the server's own doing. */
export async function takeSnapshot<T>(
  app: AppContext,
  actor: Actor | null,
  volume: Disk,
  { name, slug, labels, isRoomMade, reserve }: SnapshotRequest<T>,
): Promise<Disk | T> {
  const { id: volumeId, region } = volume;
  const at = app.nodes.of(volume);
  const snapshot = {
    kind: "snapshot" as const,
    id: newId("snp", region, classOfId(volumeId)),
    owner: at.owner,
    organizationId: volume.organizationId,
    slug,
    region,
    capacityBytes: volume.capacityBytes,
    isBootable: volume.isBootable,
    // The less that it may be, until the node has said.
    consistency: "frozen" as const,
    parent: { kind: "volume" as const, id: volume.id, slug: volume.slug },
    baseSnapshot: volume.baseSnapshot,
    baseImageId: volume.baseImageId,
    labels,
    everyMs: null,
    createdAtMs: Date.now(),
  };
  const sealNow = () => sealDisk(app, at.node, { region, volumeId, snapshotId: snapshot.id });
  const seal = new Step("seal", {
    run: () => (isRoomMade ? withRoom(app, at, region, sealNow) : sealNow()),
    async undo() {
      if (!app.nodes.isLost(at.owner.nodeId)) await at.node.deleteDisk({ region, id: snapshot.id });
    },
  });
  const record = await runOperation<Disk | T>(app, {
    name,
    objectId: snapshot.id,
    intent: {
      run: () => reserve(snapshot),
      undo: () => forgetUnmade(app, snapshot.id, at.owner),
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
  return record;
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
