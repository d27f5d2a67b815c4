import { CHUNK_BYTES, readChunks, writeRaw, writeSnapshotFile } from "@caisson/snapshot-store";
import { type Actor, type AppContext, requireDisk } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import { fetchIfLost } from "../replication/snapshot-fetch.ts";
import { rehomeIfLost } from "../replication/snapshot-rehome.ts";
import { headerOf } from "./snapshot-header.ts";

export interface SnapshotExport {
  readonly slug: string;
  /** What follows, when that is known before. */
  readonly sizeBytes: number | null;
  /** The whole, in pieces of at most about a chunk. Throws where the snapshot is deleted for good meanwhile. Its end, also an early one, ends the export. */
  readonly contents: AsyncGenerator<Uint8Array, void>;
}

/**
 * Exports a snapshot: as a snapshot file, or as the raw image. It reads what the snapshot holds, and no holes, at the pace of the client, while sandboxes run from it and volumes are made from
 * it. One that its pool has lost comes back from the snapshot store first; `signal`: the client has left. Deleting the snapshot does not end an export; purging it does.
 */
export async function exportSnapshot(
  app: AppContext,
  actor: Actor,
  idOrSlug: string,
  { isRaw, signal }: { readonly isRaw: boolean; readonly signal: AbortSignal },
): Promise<SnapshotExport> {
  const snapshot = await rehomeIfLost(app, await requireDisk(app, actor, "snapshot", idOrSlug));
  const { id, region, slug } = snapshot;
  const { node } = app.nodes.of(snapshot);
  await using resources = new AsyncDisposableStack();
  resources.use(app.transfers.take(actor.organization.id));
  await fetchIfLost(app, snapshot, signal);
  const image = resources.use(await node.exportDisk({ region, id }));
  await app.store.events.record(
    auditEvent(actor, "snapshot-export", snapshot, { slug, format: isRaw ? "raw" : "file" }),
  );
  const pieces = isRaw
    ? writeRaw(image)
    : writeSnapshotFile(
        { ...headerOf(snapshot, image.sizeBytes, image.fileSystem), chunkBytes: CHUNK_BYTES },
        readChunks(image, CHUNK_BYTES),
      );
  const sizeBytes = isRaw ? image.sizeBytes : null;
  return { slug, sizeBytes, contents: withResources(pieces, resources.move()) };
}

/** A generator that never began is ended without running: hence an object that disposes in any case. */
function withResources(
  pieces: AsyncGenerator<Uint8Array, void>,
  resources: AsyncDisposableStack,
): AsyncGenerator<Uint8Array, void> {
  const end = async (): Promise<IteratorResult<Uint8Array, void>> => {
    try {
      await pieces.return();
    } finally {
      await resources.disposeAsync();
    }
    return { done: true, value: undefined };
  };
  return {
    async next() {
      try {
        const result = await pieces.next();
        return result.done === true ? await end() : result;
      } catch (error) {
        await end();
        throw error;
      }
    },
    return: end,
    async throw(error) {
      await end();
      throw error;
    },
    [Symbol.asyncIterator]() {
      return this;
    },
    async [Symbol.asyncDispose]() {
      await end();
    },
  };
}
