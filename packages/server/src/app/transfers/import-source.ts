import { CaissonError, formatSize, type Labels } from "@caisson/model";
import {
  CHUNK_BYTES,
  type Chunk,
  fileSystemBytes,
  invalidFile,
  isSnapshotFile,
  peek,
  readRaw,
  SnapshotFileReader,
} from "@caisson/snapshot-store";

/** A snapshot as it comes in. */
export interface ImportSource extends AsyncDisposable {
  readonly format: "file" | "raw";
  readonly sizeBytes: number;
  /** About how much of it holds data; null: not known. */
  readonly dataBytes: number | null;
  readonly chunkBytes: number;
  readonly isBootable: boolean;
  readonly consistency: "clean" | "frozen";
  readonly labels: Labels;
  /** Of the image, for the trail, where the format has one. Only after all chunks were read. */
  digest(): string | null;
  /** In order. Ends only when what came is whole, as far as the format tells. */
  chunks(): AsyncGenerator<Chunk, void>;
}

export type ImportFormat = { readonly isRaw: false } | { readonly isRaw: true; readonly isBootable: boolean };

/** Enough for the superblock of a file system. */
const BEGINNING_BYTES = 2048;

/** Reads what comes before the data. Throws `INVALID_SNAPSHOT_FILE`, and `INVALID_CAPACITY` for what is larger than `maxBytes`. */
export async function openImportSource(
  pieces: AsyncIterable<Uint8Array>,
  format: ImportFormat,
  maxBytes: number,
): Promise<ImportSource> {
  const whole = orCut(pieces);
  try {
    const source = format.isRaw ? await openRaw(whole, format.isBootable, maxBytes) : await openFile(whole);
    if (source.sizeBytes > maxBytes) throw tooLarge(source.sizeBytes, maxBytes);
    return source;
  } catch (error) {
    await whole.return();
    throw error;
  }
}

async function openFile(pieces: AsyncIterable<Uint8Array>): Promise<ImportSource> {
  const reader = await SnapshotFileReader.open(pieces);
  const { sizeBytes, dataBytes, chunkBytes, isBootable, consistency, labels, parent } = reader.header;
  if (parent !== null) {
    throw invalidFile("it is a difference to another snapshot, which this server does not take", {
      advice: "Export the whole snapshot",
    });
  }
  return {
    format: "file",
    ...{ sizeBytes, dataBytes, chunkBytes, isBootable, consistency, labels },
    digest: () => reader.imageDigest.toString("hex"),
    chunks: () => reader.chunks(),
    [Symbol.asyncDispose]: () => reader[Symbol.asyncDispose](),
  };
}

/** The image is as large as the file system on it; what follows that is left out. */
async function openRaw(
  pieces: AsyncIterable<Uint8Array>,
  isBootable: boolean,
  maxBytes: number,
): Promise<ImportSource> {
  const { beginning, all } = await peek(pieces, BEGINNING_BYTES);
  if (isSnapshotFile(beginning))
    throw invalidFile("it is no raw image", {
      advice: "It is a snapshot file: import it without saying that it is raw",
    });
  const sizeBytes = fileSystemBytes(beginning);
  if (sizeBytes === null)
    throw invalidFile("it is no ext4 file system", { advice: "Give the image of one, without a partition table" });
  return {
    format: "raw",
    ...{ sizeBytes, dataBytes: null, chunkBytes: CHUNK_BYTES, isBootable, consistency: "clean", labels: {} },
    digest: () => null,
    chunks: () =>
      readRaw(all, { sizeBytes, onReceived: (bytes) => bytes > maxBytes && fail(tooLarge(bytes, maxBytes)) }),
    async [Symbol.asyncDispose]() {
      await all.return();
    },
  };
}

/** Where whoever sends it breaks off, that is what is wrong with the file. */
async function* orCut(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  try {
    yield* pieces;
  } catch (cause) {
    throw invalidFile("the upload was cut off", { cause });
  }
}

function fail(error: Error): never {
  throw error;
}

function tooLarge(sizeBytes: number, maxBytes: number): CaissonError {
  return new CaissonError(
    "INVALID_CAPACITY",
    `Cannot import an image of ${formatSize(sizeBytes)} or more: volumes have at most ${formatSize(maxBytes)} on this server. ` +
      "Shrink its file system (resize2fs), or raise volumes.max_capacity in the settings",
  );
}
