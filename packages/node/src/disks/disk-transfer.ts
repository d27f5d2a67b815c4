import { readFileSystemIdentity, settleForeignFileSystem } from "@caisson/storage";
import type { DiskExport, DiskPiece, ImportSpec } from "../node.ts";
import type { Pool } from "../pools/pool.ts";

/** What is read at a time. */
const PIECE_BYTES = 2 ** 20;

/** Opens a snapshot to be read. */
export async function exportDisk({ storage }: Pick<Pool, "storage">, id: string): Promise<DiskExport> {
  await using opened = new AsyncDisposableStack();
  const image = opened.use(await storage.openSealed(id));
  const fileSystem = await readFileSystemIdentity(storage, id);
  const resources = opened.move();
  return {
    sizeBytes: image.sizeBytes,
    fileSystem,
    async *pieces() {
      for await (const { offset, length } of image.data()) {
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
