import { hasErrorCode } from "@caisson/linux";
import type { SealedDisk, SealSpec } from "../node.ts";
import type { Pool } from "../pools/pool.ts";

/** Copies a volume as it is at one instant. While a sandbox can write to it, it is frozen for that instant; nobody mounts or unmounts it meanwhile. */
export function sealDisk(
  { storage, volumes, locks }: Pick<Pool, "storage" | "volumes" | "locks">,
  { volumeId, snapshotId }: SealSpec,
): Promise<SealedDisk> {
  return locks.run(volumeId, async () => {
    const live = volumes.live(volumeId);
    const { frozenMs } = await storage.sealImage(volumeId, snapshotId, { live }).catch((error: unknown) => {
      // Its writers may have been made to wait for room meanwhile: then this says so.
      if (hasErrorCode(error, "EBUSY")) volumes.live(volumeId);
      throw error;
    });
    return { consistency: live === null ? "clean" : "frozen", frozenMs };
  });
}
