import type { Disk, NewDisk } from "@caisson/database";
import { runOperation, Step } from "@caisson/linux";
import { CaissonError, formatSize, type Labels, newId, requireLabels, requireSlug } from "@caisson/model";
import type { Actor, AppContext } from "../context.ts";
import { forgetUnmade } from "../disks/disk-forget.ts";
import { measureDisk, NO_USAGE } from "../disks/disk-measure.ts";
import { makeRoom } from "../disks/room.ts";
import { pickNode } from "../nodes/node-choice.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { replicateByPolicy } from "../replication/replication-policy.ts";
import { piecesOf } from "./disk-pieces.ts";
import { type ImportFormat, type ImportSource, openImportSource } from "./import-source.ts";

export interface ImportSnapshotInput {
  readonly slug: string;
  /** Default: the server's first one. */
  readonly region: string | null;
  /** Default: those that it was exported with. */
  readonly labels: Labels | null;
  readonly format: ImportFormat;
}

/**
 * Makes a snapshot of one that was exported, or of a raw image, as it comes in.
 *
 * The header is read and judged before anything is made. Intent: the row in `creating`, which takes the slug. Then the image is written, its file system is checked, and it is sealed,
 * which is one step of the storage: only a whole and sound image becomes visible in the pool. Commit: the row is `ready`, with its event.
 *
 * What is damaged or cut is found before the sealing, so that nothing of it stays. A failure undoes as that of a volume's creation does. A crash leaves a row that the next start
 * undoes; the image that was being written goes with the process. `signal`: the client that would be answered has left.
 */
export async function importSnapshot(
  app: AppContext,
  actor: Actor,
  input: ImportSnapshotInput,
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<Disk> {
  const slug = requireSlug(input.slug);
  const given = input.labels === null ? null : requireLabels(input.labels);
  const region = input.region ?? app.nodes.defaultRegion(app.config.regions[0]);
  const at = await pickNode(app, region);
  using _place = app.transfers.take(actor.organization.id);
  await using source = await openImportSource(body, input.format, app.config.volumes.maxCapacityBytes);
  await requireRoomFor(app, at, region, source);
  const snapshot: NewDisk = {
    kind: "snapshot",
    id: newId("snp", region),
    organizationId: actor.organization.id,
    slug,
    region,
    capacityBytes: source.sizeBytes,
    isBootable: source.isBootable,
    consistency: source.consistency,
    // What it came from is of another installation, or a claim.
    parent: null,
    baseSnapshot: null,
    baseImageId: null,
    everyMs: null,
    labels: given ?? source.labels,
    createdAtMs: Date.now(),
    owner: at.owner,
  };
  const { id } = snapshot;
  const record = await runOperation(app, {
    name: "snapshot-import",
    objectId: id,
    lock: id,
    signal,
    intent: {
      async run() {
        await app.store.disks.reserve(snapshot);
        return null;
      },
      undo: () => forgetUnmade(app, id, at.owner),
    },
    steps: [
      new Step("image", {
        run: () =>
          at.node.importDisk({ region, id, sizeBytes: source.sizeBytes }, piecesOf(app, at, region, source), signal),
        async undo() {
          if (!app.nodes.isLost(at.owner.nodeId)) await at.node.deleteDisk({ region, id });
        },
      }),
    ],
    commit: {
      async run() {
        const { format, consistency } = source;
        const event = auditEvent(actor, "snapshot-import", snapshot, { slug, format, imageDigest: source.digest() });
        const usage = await measureDisk(at.node, snapshot, NO_USAGE);
        return app.store.disks.commit(id, { consistency, ...usage }, event);
      },
      withdraw: () => app.store.disks.withdraw(id),
    },
  });
  return replicateByPolicy(app, record);
}

/** Throws `STORAGE_FULL` before much was sent, where it is known beforehand that there is no room. The writing looks again. */
async function requireRoomFor(
  app: AppContext,
  at: ConnectedNode,
  region: string,
  { dataBytes }: ImportSource,
): Promise<void> {
  if (dataBytes === null || (await mostAvailable(at, region)) >= dataBytes) return;
  await makeRoom(app, at, region);
  const availableBytes = await mostAvailable(at, region);
  if (availableBytes >= dataBytes) return;
  throw new CaissonError(
    "STORAGE_FULL",
    `Cannot import the snapshot: it holds ${formatSize(dataBytes)}, and the pool of region ${region} has ${formatSize(availableBytes)} available`,
  );
}

/** An image lies on one disk, and what comes in is local. */
async function mostAvailable({ node }: ConnectedNode, region: string): Promise<number> {
  const { disks } = await node.poolCapacity(region);
  const local = disks.filter((disk) => disk.class !== "replicated");
  return Math.max(0, ...local.map(({ availableBytes }) => availableBytes));
}
