import { readFileSystemIdentity, settleForeignFileSystem } from "@caisson/storage";
import type { DiskExport, DiskPart, DiskPiece, ImportSpec } from "../node.ts";
import type { Pool } from "../pools/pool.ts";

/** What is read at a time. */
const PIECE_BYTES = 2 ** 20;
/** So many parts may be told as changed. */
const PARTS_MAX = 4096;

/** Opens a snapshot to be read. */
export async function exportDisk(
  { storage }: Pick<Pool, "storage">,
  id: string,
  base: string | null,
): Promise<DiskExport> {
  await using opened = new AsyncDisposableStack();
  const image = opened.use(await storage.openSealed(id));
  const fileSystem = await readFileSystemIdentity(storage, id);
  const found = base === null ? null : await storage.compareSealed(id, base);
  const changed = found === null ? null : wholeUnits(found, image.sizeBytes);
  const resources = opened.move();
  return {
    sizeBytes: image.sizeBytes,
    fileSystem,
    ...(changed === null ? {} : { changed }),
    async *pieces() {
      for await (const { offset, length } of within(image.data(), changed)) {
        const end = Math.min(offset + length, image.sizeBytes);
        for (let at = offset; at < end; ) {
          // A reader's chunk is one piece, or a few where there are holes in it.
          const bytes = Buffer.allocUnsafeSlow(Math.min(end - at, PIECE_BYTES - (at % PIECE_BYTES)));
          await image.read(at, bytes);
          yield { offset: at, bytes };
          at += bytes.length;
        }
      }
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** The parts of an image, made larger so that each begins and ends at a multiple of `PIECE_BYTES`, or of as large a unit as leaves few enough. */
export function wholeUnits(parts: readonly DiskPart[], sizeBytes: number): readonly DiskPart[] {
  for (let unitBytes = PIECE_BYTES; ; unitBytes *= 2) {
    const whole: { offset: number; length: number }[] = [];
    for (const { offset, length } of parts) {
      const start = Math.floor(offset / unitBytes) * unitBytes;
      const end = Math.min(sizeBytes, Math.ceil((offset + length) / unitBytes) * unitBytes);
      const last = whole.at(-1);
      if (last !== undefined && start <= last.offset + last.length)
        last.length = Math.max(last.length, end - last.offset);
      else whole.push({ offset: start, length: end - start });
    }
    if (whole.length <= PARTS_MAX) return whole;
  }
}

/** What of the data lies in the parts; null: all. Both are in order. */
export async function* within(
  data: AsyncIterable<DiskPart>,
  parts: readonly DiskPart[] | null,
): AsyncGenerator<DiskPart, void> {
  let index = 0;
  for await (const { offset, length } of data) {
    if (parts === null) yield { offset, length };
    for (const end = offset + length; parts !== null; index += 1) {
      const part = parts[index];
      if (part === undefined || part.offset >= end) break;
      const start = Math.max(offset, part.offset);
      const stop = Math.min(end, part.offset + part.length);
      if (start < stop) yield { offset: start, length: stop - start };
      // The part may go on in the next data.
      if (part.offset + part.length > end) break;
    }
  }
}

/** Makes a snapshot of what comes, when all of it has come and its file system is sound. */
export async function importDisk(
  { storage, locks }: Pick<Pool, "storage" | "locks">,
  { id, sizeBytes, isOwn = false }: ImportSpec,
  pieces: AsyncIterable<DiskPiece>,
  signal: AbortSignal,
): Promise<void> {
  await locks.run(id, () =>
    storage.createSealed(id, async (image) => {
      await image.setSize(sizeBytes);
      for await (const { offset, bytes } of pieces) {
        signal.throwIfAborted();
        await image.write(offset, bytes);
      }
      if (!isOwn) await settleForeignFileSystem(image.path, sizeBytes, signal);
    }),
  );
}
