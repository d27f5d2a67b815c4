import { CHUNK_BYTES, chunkCount, chunkLength } from "../chunk.ts";
import type { ImageDifference, ImagePart } from "../image/read-chunks.ts";
import type { Manifest, ManifestChunk } from "./manifest.ts";
import type { OrganizationKey } from "./organization-keys.ts";
import type { UsableChunks } from "./store-chunks.ts";

/**
 * The chunks of an image that its base has too, which lie in the store already: they need not be read. Null: one of them is not to be counted on, since it is condemned, damaged or cut, or what is known of the difference is not of whole chunks; all is to be read then. A chunk that is the same is
 * missing from the base's manifest when it is all zeros.
 */
export function findSharedChunks(
  { sizeBytes, changed }: Pick<ImageDifference, "sizeBytes" | "changed">,
  { header, chunks }: Manifest,
  key: OrganizationKey,
  usable: UsableChunks,
): readonly ManifestChunk[] | null {
  if (header.chunkBytes !== CHUNK_BYTES || !isOfWholeChunks(changed, sizeBytes)) return null;
  if (!coversGrowth(changed, sizeBytes, header.sizeBytes)) return null;
  const shared: ManifestChunk[] = [];
  let part = 0;
  for (const { index, sha256 } of chunks) {
    const start = index * CHUNK_BYTES;
    if (start >= sizeBytes) break;
    let next = changed[part];
    while (next !== undefined && endOf(next) <= start) {
      part += 1;
      next = changed[part];
    }
    if (next !== undefined && next.offset <= start) continue;
    const stored = usable.get(key.chunkId(Buffer.from(sha256, "hex")));
    if (stored === undefined) return null;
    shared.push({ index, sha256, name: stored.name, storedBytes: stored.storedBytes });
  }
  return shared;
}

/** In order, without overlaps, and each of whole chunks: of a chunk that is read in part the rest would be taken for zeros. */
function isOfWholeChunks(changed: readonly ImagePart[], sizeBytes: number): boolean {
  let end = 0;
  return changed.every((part) => {
    const isFit =
      part.offset >= end &&
      part.length > 0 &&
      part.offset % CHUNK_BYTES === 0 &&
      (endOf(part) % CHUNK_BYTES === 0 || endOf(part) === sizeBytes) &&
      endOf(part) <= sizeBytes;
    end = endOf(part);
    return isFit;
  });
}

/** Whether what lies behind the end of the base, and a last chunk that has another length there, is read. */
function coversGrowth(changed: readonly ImagePart[], sizeBytes: number, baseBytes: number): boolean {
  if (baseBytes === sizeBytes) return true;
  const index = Math.floor(Math.min(baseBytes, sizeBytes) / CHUNK_BYTES);
  if (index >= chunkCount(sizeBytes, CHUNK_BYTES)) return true;
  const isSameLength =
    index < chunkCount(baseBytes, CHUNK_BYTES) &&
    chunkLength(baseBytes, CHUNK_BYTES, index) === chunkLength(sizeBytes, CHUNK_BYTES, index);
  const last = changed.at(-1);
  return isSameLength || (last !== undefined && last.offset <= index * CHUNK_BYTES && endOf(last) === sizeBytes);
}

function endOf({ offset, length }: ImagePart): number {
  return offset + length;
}
