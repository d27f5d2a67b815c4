import type { SnapshotHeader } from "@caisson/snapshot-store";
import type { Disk } from "../records.ts";

/** What is told of a snapshot where it is kept or sent. */
export function headerOf(
  snapshot: Disk,
  sizeBytes: number,
  fileSystem: SnapshotHeader["fileSystem"],
): Omit<SnapshotHeader, "chunkBytes"> {
  return {
    sizeBytes,
    dataBytes: snapshot.flattenedBytes,
    fileSystem,
    slug: snapshot.slug,
    labels: snapshot.labels,
    isBootable: snapshot.isBootable,
    consistency: snapshot.consistency ?? "clean",
    createdAt: new Date(snapshot.createdAtMs).toISOString(),
    origin: {
      snapshotId: snapshot.id,
      region: snapshot.region,
      volume: snapshot.parent?.slug ?? null,
      baseSnapshot: snapshot.baseSnapshot?.slug ?? null,
    },
    parent: null,
  };
}
