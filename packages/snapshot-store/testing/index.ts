import type { SnapshotHeader, SourceImage } from "../src/index.ts";

/** An image that is given as a whole. */
export function sourceOf(image: Buffer): SourceImage {
  return {
    sizeBytes: image.length,
    async *pieces() {
      yield { offset: 0, bytes: image };
    },
  };
}

/** What a store is told of a snapshot with that image. */
export function headerFor(image: Buffer): Omit<SnapshotHeader, "chunkBytes"> {
  return {
    sizeBytes: image.length,
    dataBytes: null,
    fileSystem: { type: "ext4", uuid: "0".repeat(32), sizeBytes: image.length },
    ...{ slug: "secret-slug", labels: {}, isBootable: false, consistency: "clean" },
    createdAt: "2026-11-27T12:00:00.000Z",
    origin: { snapshotId: "snp", region: "ord", volume: null, baseSnapshot: null },
    parent: null,
  };
}
