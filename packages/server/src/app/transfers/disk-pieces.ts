import type { DiskPiece } from "@caisson/node";
import { type Chunk, dataRuns } from "@caisson/snapshot-store";
import type { AppContext } from "../context.ts";
import { makeRoom } from "../disks/room.ts";
import type { ConnectedNode } from "../nodes/node-directory.ts";

/** So much is written between two looks at whether the pool needs room. */
const STRIDE_BYTES = 64 * 2 ** 20;

/** The pieces of an image that comes in as chunks, without its zeros. Room is made before it lacks, because a stream cannot be tried again. */
export async function* piecesOf(
  app: AppContext,
  at: ConnectedNode,
  region: string,
  source: { readonly chunkBytes: number; chunks(): AsyncGenerator<Chunk, void> },
): AsyncGenerator<DiskPiece, void> {
  let unlookedBytes = STRIDE_BYTES;
  for await (const { index, bytes } of source.chunks()) {
    if (unlookedBytes >= STRIDE_BYTES) {
      await makeRoom(app, at, region);
      unlookedBytes = 0;
    }
    unlookedBytes += bytes.length;
    yield* dataRuns(bytes, index * source.chunkBytes);
  }
}
