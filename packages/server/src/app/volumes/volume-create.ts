import { createHash } from "node:crypto";
import type { Disk, DiskUsage, NewDisk, ObjectReference, Owner, ParentReference } from "@caisson/database";
import { runOperation, Step } from "@caisson/linux";
import {
  CaissonError,
  type DiskClass,
  formatSize,
  type Labels,
  MINIMUM_INODES,
  maximumInodes,
  newId,
  parseSize,
  requireLabels,
  requireSlug,
} from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { forgetUnmade } from "../disks/disk-forget.ts";
import { measureDisk, NO_USAGE } from "../disks/disk-measure.ts";
import { withRoom } from "../disks/room.ts";
import { nodeChoice, pickNode, requireRegion } from "../nodes/node-choice.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";
import { placedOwner } from "../nodes/placed-owner.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { fetchIfLost } from "../replication/snapshot-fetch.ts";
import { rehomeIfLost } from "../replication/snapshot-rehome.ts";
import { requireEvery } from "../schedules/period.ts";
import { requireBaseImage } from "./base-image.ts";
import { hasClass, nodesWithoutClass } from "./volume-class.ts";

export interface CreateVolumeInput {
  readonly slug: string;
  readonly region: string;
  readonly capacity: string | number;
  /** `builtin:<name>`, or a snapshot's id or slug. */
  readonly from?: string | null;
  /** Default: as the settings say. */
  readonly class?: DiskClass | null;
  /** How many files, directories and links a blank volume can hold at least. Default: one for every 10 KiB. */
  readonly inodes?: number | null;
  readonly labels?: Labels | null;
  /** How often the server is to make a snapshot of it by itself, such as `5m`. Default: never. */
  readonly every?: string | null;
}

interface Source {
  /** A clone is made where its source is. */
  readonly at: ConnectedNode;
  readonly imageId: string;
  readonly sizeBytes: number;
  readonly isBootable: boolean;
  readonly parent: ParentReference;
  readonly baseSnapshot: ObjectReference | null;
  /** What is known of a clone before it is measured. */
  readonly usage: DiskUsage;
}

/**
 * Creates a volume.
 *
 * Intent: the row in `creating`, which takes the slug. Then the image and its file system are made and made durable. Commit: the row is `ready`, with
 * its event, which is the acknowledgement: nothing that it promises can be missing.
 *
 * A failure first turns the row to `purging`, which frees the slug and rules out that the commit happened after all, then deletes the image, then
 * forgets the row. `signal`: the client has left, so that nobody waits for a snapshot that is being fetched; what was begun goes on. A crash leaves the row in one of the two states, and the next start does the same.
 */
export async function createVolume(
  app: AppContext,
  actor: Actor,
  input: CreateVolumeInput,
  idempotencyKey?: string,
  signal: AbortSignal = new AbortController().signal,
): Promise<Disk> {
  const slug = requireSlug(input.slug);
  await requireRegion(app, input.region);
  const { region } = input;
  const diskClass = input.class ?? app.config.volumes.defaultClass;
  const id = newId("vol", region, diskClass);
  const without = await nodesWithoutClass(app, { region, id }, diskClass);
  const capacityBytes = requireCapacity(app, input.capacity);
  const labels = requireLabels(input.labels ?? {});
  const inodes = requireInodes(input, capacityBytes);
  const everyMs = requireEvery(app, input.every ?? null);
  const source =
    input.from == null ? null : await findSource(app, actor, { region, from: input.from, diskClass, signal });
  if (source !== null && capacityBytes < source.sizeBytes) {
    throw new CaissonError(
      "INVALID_CAPACITY",
      `The capacity ${formatSize(capacityBytes)} is smaller than the file system of ${JSON.stringify(input.from)}: ` +
        `give at least ${source.sizeBytes} bytes (${formatSize(source.sizeBytes)})`,
    );
  }
  // A blank volume is made where the store says.
  const placed: { owner: Owner | null } = { owner: source?.at.owner ?? null };
  const at = (): ConnectedNode => app.nodes.of({ ...volume, owner: placedOwner(volume.id, placed.owner) });
  const volume: NewDisk = {
    kind: "volume",
    id,
    owner: source?.at.owner ?? null,
    organizationId: actor.organization.id,
    slug,
    region,
    capacityBytes,
    isBootable: source?.isBootable ?? false,
    consistency: null,
    parent: source?.parent ?? null,
    baseSnapshot: source?.baseSnapshot ?? null,
    baseImageId: source?.imageId ?? null,
    labels,
    everyMs,
    createdAtMs: Date.now(),
  };
  const disk = { region, id: volume.id };
  const clonedFrom = source === null ? null : { imageId: source.imageId, sizeBytes: source.sizeBytes };
  const key =
    idempotencyKey === undefined ? undefined : { key: idempotencyKey, requestHash: hashRequest("volume", input) };
  return runOperation(app, {
    name: "volume-create",
    objectId: volume.id,
    lock: volume.id,
    intent: {
      async run() {
        const reserved = await app.store.disks.reserve(volume, key, nodeChoice(app, without));
        if (reserved.existingId !== null) return findEarlier(app, reserved.existingId);
        placed.owner = reserved.owner;
        return null;
      },
      undo: () => forgetUnmade(app, volume.id, placed.owner),
    },
    steps: [
      new Step("image", {
        run: () =>
          withRoom(app, at(), region, () =>
            at().node.createDisk({ ...disk, sizeBytes: capacityBytes, source: clonedFrom, inodes }),
          ),
        async undo() {
          if (!app.nodes.isLost(placedOwner(volume.id, placed.owner).nodeId)) await at().node.deleteDisk(disk);
        },
      }),
    ],
    commit: {
      async run() {
        const event = auditEvent(actor, "volume-create", volume, {
          slug,
          capacityBytes,
          inodes,
          class: diskClass,
          from: input.from ?? null,
          every: input.every ?? null,
        });
        const usage = await measureDisk(at().node, volume, source?.usage ?? NO_USAGE);
        return app.store.disks.commit(volume.id, { consistency: null, ...usage }, event);
      },
      withdraw: () => app.store.disks.withdraw(volume.id),
    },
  });
}

/** The capacity in bytes. Throws `INVALID_CAPACITY` outside the limits. */
export function requireCapacity(app: AppContext, capacity: string | number): number {
  const { minCapacityBytes, maxCapacityBytes } = app.config.volumes;
  const bytes = parseSize(capacity);
  if (bytes >= minCapacityBytes && bytes <= maxCapacityBytes) return bytes;
  throw new CaissonError(
    "INVALID_CAPACITY",
    `The capacity ${JSON.stringify(capacity)} is outside the limits: give ${minCapacityBytes} to ${maxCapacityBytes} bytes`,
  );
}

/** Throws `INVALID_REQUEST` for a number outside the limits, and for a volume that has the file system of what it is made from. */
function requireInodes({ inodes, from }: CreateVolumeInput, capacityBytes: number): number | null {
  if (inodes == null) return null;
  if (from != null) {
    throw new CaissonError(
      "INVALID_REQUEST",
      `Cannot choose the inodes of a volume that is made from ${JSON.stringify(from.slice(0, 64))}: it has the file system of that, with its inodes. ` +
        "Leave `inodes` out, or `from`; a larger capacity brings more inodes in proportion",
    );
  }
  const most = maximumInodes(capacityBytes);
  if (Number.isSafeInteger(inodes) && inodes >= MINIMUM_INODES && inodes <= most) return inodes;
  throw new CaissonError(
    "INVALID_REQUEST",
    `A volume of ${capacityBytes} bytes cannot have ${inodes} inodes: give a whole number from ${MINIMUM_INODES} to ${most}, one for every 4 KiB`,
  );
}

/** The object of an earlier request with the same idempotency key, once that request is done. */
export async function findEarlier(app: AppContext, id: string): Promise<Disk> {
  const record = await app.locks.run(id, () => app.store.disks.get(id));
  if (record?.state === "ready" || record?.state === "deleted") return record;
  if (record?.state === "creating") {
    throw new CaissonError(
      "IDEMPOTENCY_KEY_REUSED",
      `The request with this idempotency key failed, and what it made of ${record.kind} ${JSON.stringify(record.slug)} is still being undone: ` +
        "send the request again in a moment",
    );
  }
  throw new CaissonError(
    "IDEMPOTENCY_KEY_REUSED",
    "The object that this idempotency key created is gone: use a new key to create another",
  );
}

export function hashRequest(kind: string, input: object): Uint8Array {
  const sorted = Object.entries(input)
    .filter(([, value]) => value !== undefined && value !== null)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256")
    .update(JSON.stringify([kind, sorted]))
    .digest();
}

async function findSource(
  app: AppContext,
  actor: Actor,
  wanted: {
    readonly region: string;
    readonly from: string;
    readonly diskClass: DiskClass;
    readonly signal: AbortSignal;
  },
): Promise<Source> {
  const { region, from, diskClass, signal } = wanted;
  if (from.startsWith("builtin:")) {
    const chosen = await pickNode(app, region, from, (at) => hasClass(at, region, diskClass));
    const base = requireBaseImage(chosen, region, from);
    const parent: ParentReference = { kind: "builtin", id: base.imageId, slug: base.name };
    return {
      at: chosen,
      imageId: base.imageId,
      sizeBytes: base.sizeBytes,
      isBootable: true,
      parent,
      baseSnapshot: null,
      usage: NO_USAGE,
    };
  }
  const found = await app.store.disks.find(actor.organization.id, "snapshot", from);
  if (found === null)
    throw new CaissonError(
      "SNAPSHOT_NOT_FOUND",
      `There is no snapshot ${JSON.stringify(from.slice(0, 64))} to create from`,
    );
  if (found.region !== region) {
    throw new CaissonError(
      "REGION_MISMATCH",
      `The snapshot ${JSON.stringify(found.slug)} is in region ${found.region}, the volume would be in ${region}: create the volume in ${found.region}`,
    );
  }
  const snapshot = await rehomeIfLost(app, found);
  const at = app.nodes.of(snapshot);
  if (!hasClass(at, region, diskClass)) {
    throw new CaissonError(
      "INVALID_REQUEST",
      `Cannot make a replicated volume from ${JSON.stringify(snapshot.slug)}: it is on node ${at.owner.nodeId}, whose settings name no replicated pool. ` +
        `Leave the class out for a local volume, or have an administrator add "[replicated]" to that node's caisson.toml`,
    );
  }
  await fetchIfLost(app, snapshot, signal);
  const reference = { id: snapshot.id, slug: snapshot.slug };
  return {
    at,
    imageId: snapshot.id,
    sizeBytes: snapshot.capacityBytes,
    isBootable: snapshot.isBootable,
    parent: { kind: "snapshot", ...reference },
    baseSnapshot: reference,
    usage: { ...NO_USAGE, flattenedBytes: snapshot.flattenedBytes },
  };
}
