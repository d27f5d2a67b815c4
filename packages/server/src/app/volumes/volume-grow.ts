import type { Disk } from "@caisson/database";
import { runOperation, Step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import { type Actor, type AppContext, requireDisk } from "../context.ts";
import { measureDisk } from "../disks/disk-measure.ts";
import { takeOverIfLost } from "../disks/disk-take-over.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { rebuildIfRestored } from "../restored/volume-rebuild.ts";
import { settleGrow } from "./grow-settle.ts";
import { requireCapacity } from "./volume-create.ts";
import { waitForHolders } from "./volume-holders.ts";

/**
 * Grows a detached volume, its file system included.
 *
 * Intent: the new size in the row. Then the image grows, then the file system over it. Commit: the row's capacity, with its event.
 *
 * Nothing ever shrinks, so the way back ends with the image's growth: a failure or a crash before forgets the intent, one after it is finished, in
 * the background or by the next start. Until then the volume can be used at its old size.
 */
export async function growVolume(
  app: AppContext,
  actor: Actor,
  idOrSlug: string,
  capacity: string | number,
): Promise<Disk> {
  const volume = await takeOverIfLost(app, await requireDisk(app, actor, "volume", idOrSlug));
  const { id, region } = volume;
  const { owner, node } = app.nodes.of(volume);
  const capacityBytes = requireCapacity(app, capacity);
  await rebuildIfRestored(app, volume);
  await waitForHolders(app, id);
  const event = auditEvent(actor, "volume-grow", volume, { fromBytes: volume.capacityBytes, capacityBytes });
  return runOperation(app, {
    name: "volume-grow",
    objectId: id,
    lock: id,
    intent: {
      async run() {
        const current = await requireDisk(app, actor, "volume", id);
        requireLarger(current, capacityBytes);
        if (capacityBytes === current.capacityBytes) return current;
        await app.store.disks.beginGrow(owner, id, capacityBytes);
        return null;
      },
      undo: () => app.store.disks.cancelGrow(id),
    },
    steps: [new Step("disk", { run: () => node.growDisk({ region, id }, capacityBytes) })],
    commit: {
      run: async () => app.store.disks.finishGrow(id, await measureDisk(node, volume, volume), event),
      withdraw: () => settleGrow(app, id, event),
    },
  });
}

/** Throws `INVALID_CAPACITY` for a size below the volume's, or below the one that an earlier, unfinished grow is bringing it to. */
function requireLarger(volume: Disk, capacityBytes: number): void {
  const leastBytes = Math.max(volume.capacityBytes, volume.growToBytes ?? 0);
  if (capacityBytes >= leastBytes) return;
  const state = leastBytes === volume.capacityBytes ? "" : ` (it is being grown to ${leastBytes})`;
  throw new CaissonError(
    "INVALID_CAPACITY",
    `Cannot shrink volume ${JSON.stringify(volume.slug)} from ${volume.capacityBytes} to ${capacityBytes} bytes${state}: a capacity can only grow`,
  );
}
