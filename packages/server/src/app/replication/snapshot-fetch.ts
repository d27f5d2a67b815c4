import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { Chunk, SnapshotStore } from "@caisson/snapshot-store";
import type { AppContext } from "../context.ts";
import { auditEvent } from "../operations/audit-event.ts";
import type { Disk } from "../records.ts";
import { piecesOf } from "../transfers/disk-pieces.ts";
import type { FetchProgress } from "./snapshot-fetches.ts";

/** Without a chunk for so long, a fetch is given up. */
const SILENCE_MS = 120_000;

/**
 * Brings the image of a replicated snapshot back from the snapshot store where its pool has lost it, before it is used; otherwise does nothing. One that lies on a disk which is only missing stays there.
 *
 * Every chunk is verified, and the image becomes visible when it is whole, so that whatever cuts this off leaves nothing, and the next use begins again. Uses of one snapshot that come together wait for one fetch, which ends when the last of
 * them leaves (`signal`), and when nothing has come for two minutes.
 */
export async function fetchIfLost(app: AppContext, snapshot: Disk, signal: AbortSignal): Promise<void> {
  const { snapshotStore } = app;
  if (snapshotStore === null || snapshot.replication.state !== "replicated") return;
  if (!(await isLost(app, snapshot))) return;
  const { id } = snapshot;
  await app.fetches.join(id, signal, (wanted, progress) =>
    app.locks.run(id, async () => {
      const found = await app.store.disks.get(id);
      if (found?.state !== "ready")
        throw new CaissonError("SNAPSHOT_NOT_FOUND", `There is no snapshot ${JSON.stringify(snapshot.slug)}`);
      if (await isLost(app, snapshot)) await fetchImage(app, snapshotStore, snapshot, wanted, progress);
    }),
  );
}

async function isLost(app: AppContext, snapshot: Disk): Promise<boolean> {
  const { id, region } = snapshot;
  const { node } = app.nodes.of(snapshot);
  if ((await node.getDisk({ region, id }).catch(nullIfUnusable)) !== null) return false;
  const [place] = await node.placesOf(region, [id]);
  return place?.problem === null;
}

/** What is said of a disk that cannot be used is said by whoever uses it. */
function nullIfUnusable(error: unknown): null {
  if (error instanceof CaissonError && error.code === "DISK_UNAVAILABLE") return null;
  throw error;
}

async function fetchImage(
  app: AppContext,
  snapshotStore: SnapshotStore,
  snapshot: Disk,
  wanted: AbortSignal,
  progress: FetchProgress,
): Promise<void> {
  const { id, slug, region, organizationId } = snapshot;
  const at = app.nodes.of(snapshot);
  const startedMs = performance.now();
  using silence = new Silence(`The snapshot store has sent nothing of ${JSON.stringify(slug)} for two minutes`);
  const signal = AbortSignal.any([wanted, silence.signal]);
  const stored = await step("snapshot-fetch.open", () => snapshotStore.open({ organizationId, id }, signal));
  const { sizeBytes, chunkBytes } = stored.header;
  progress.totalBytes = stored.dataBytes;
  const chunks = () => counting(silence.watch(stored.chunks()), progress);
  const pieces = piecesOf(app, at, region, { chunkBytes, chunks });
  await step("snapshot-fetch.image", () => at.node.importDisk({ region, id, sizeBytes, isOwn: true }, pieces, signal));
  await app.store.events.record(
    auditEvent(null, "snapshot-fetch", snapshot, { slug, imageDigest: stored.imageDigest }),
  );
  app.logger.info({ id, slug, tookMs: performance.now() - startedMs }, "a snapshot came back from the snapshot store");
}

async function* counting(chunks: AsyncIterable<Chunk>, progress: FetchProgress): AsyncGenerator<Chunk, void> {
  for await (const chunk of chunks) {
    yield chunk;
    progress.doneBytes += chunk.bytes.length;
  }
}

/** Aborts its signal when what it watches brings nothing for too long. */
class Silence implements Disposable {
  readonly #stopping = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly signal = this.#stopping.signal;

  constructor(message: string) {
    const error = new CaissonError("SNAPSHOT_STORE_UNAVAILABLE", message);
    this.#timer = setTimeout(() => this.#stopping.abort(error), SILENCE_MS);
  }

  async *watch<T>(items: AsyncIterable<T>): AsyncGenerator<T, void> {
    for await (const item of items) {
      this.#timer.refresh();
      yield item;
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
