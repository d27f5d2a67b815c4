import { CaissonError } from "@caisson/model";
import type { ObjectStore } from "@caisson/objects";
import { CHUNK_BYTES, type Chunk, chunkLength, sha256 } from "../chunk.ts";
import { readChunks, type SourceImage } from "../image/read-chunks.ts";
import { ImageDigest } from "../image-digest.ts";
import { mapInOrder } from "../map-in-order.ts";
import { Condemned } from "./condemned.ts";
import { listDamagedChunks } from "./damaged-chunks.ts";
import type { ManifestChunk, StoredChunk } from "./manifest.ts";
import type { OrganizationKey } from "./organization-keys.ts";
import type { Pacer } from "./pacer.ts";
import { chunkDirectory, chunkKey, chunkName, packChunk, parseChunkName } from "./stored-chunk.ts";

/** Chunks on their way at a time. */
export const WIDTH = 4;

/** Where chunks go, and by whose key. */
export interface ChunkTarget {
  readonly objects: ObjectStore;
  readonly organizationId: string;
  readonly key: OrganizationKey;
  readonly pacer: Pacer;
}

/** The chunks that an upload which begins now may count on, by their id. */
export type UsableChunks = ReadonlyMap<string, StoredChunk>;

export interface StoredChunks {
  /** In order of their index. */
  readonly chunks: readonly ManifestChunk[];
  /** Of the image (docs/snapshot-files.md), in hexadecimal. */
  readonly imageDigest: string;
  readonly readBytes: number;
  /** Of chunks that were counted on without being read. */
  readonly sharedBytes: number;
  readonly sentBytes: number;
}

/**
 * What is there in its full length, and neither condemned nor known to be damaged. Nothing where the list of what is condemned is damaged. `isWanted`: by its name. The name of each is added to `counted` as it is found: a sweep that
 * begins later lets it be.
 */
export async function listUsableChunks(
  { objects, organizationId, key }: ChunkTarget,
  counted: Set<string>,
  signal: AbortSignal,
  isWanted: (name: string) => boolean = () => true,
): Promise<UsableChunks> {
  const condemned = await Condemned.read(objects, organizationId, signal);
  if (condemned === null) return new Map();
  const damaged = await listDamagedChunks(objects, organizationId, signal);
  const usable = new Map<string, StoredChunk>();
  for await (const object of objects.list(chunkDirectory(organizationId, key.id), signal)) {
    const name = chunkName(object.key);
    const said = parseChunkName(name);
    // One that was cut has another length than its name says.
    if (said?.storedBytes !== object.sizeBytes || condemned.keys.has(object.key) || damaged.has(name)) continue;
    if (!isWanted(name)) continue;
    counted.add(name);
    usable.set(said.id, { name, storedBytes: object.sizeBytes });
  }
  return usable;
}

/** What an upload tells of its progress. */
export interface UploadProgress {
  /** Names of the chunks that it counts on. Those that are usable are among them already; those that it stores are added before they are sent. */
  readonly names: Set<string>;
  /** Called with how many chunks there are so far. */
  requireFit(count: number): void;
}

/** Sends the chunks of an image that are not usable, and counts on `shared`, those that are not read, in order. Whatever cuts it off leaves chunks, which the next try may count on. */
export async function storeChunks(
  { objects, organizationId, key, pacer }: ChunkTarget,
  image: SourceImage,
  usable: UsableChunks,
  { names, requireFit }: UploadProgress,
  signal: AbortSignal,
  shared: readonly ManifestChunk[] = [],
): Promise<StoredChunks> {
  const known = new Map<string, StoredChunk | Promise<StoredChunk>>(usable);
  const directory = chunkDirectory(organizationId, key.id);
  const digest = new ImageDigest(image.sizeBytes, CHUNK_BYTES);
  const chunks: ManifestChunk[] = [];
  let [readBytes, sharedBytes, sentBytes] = [0, 0, 0];
  const put = async (id: string, bytes: Uint8Array): Promise<StoredChunk> => {
    const { name, object } = await packChunk(key, id, bytes);
    names.add(name);
    await pacer.pass(object.length, signal);
    await objects.put(chunkKey(directory, name), object, signal);
    sentBytes += object.length;
    return { name, storedBytes: object.length };
  };
  const store = async ({ index, bytes }: Chunk): Promise<ManifestChunk> => {
    signal.throwIfAborted();
    const hash = sha256(bytes);
    const id = key.chunkId(hash);
    const stored = known.get(id) ?? put(id, bytes);
    // The same chunk further on in the image waits for this one.
    known.set(id, stored);
    readBytes += bytes.length;
    return { index, sha256: hash.toString("hex"), ...(await stored) };
  };
  const add = (chunk: ManifestChunk): void => {
    digest.add(chunk.index, Buffer.from(chunk.sha256, "hex"));
    chunks.push(chunk);
    requireFit(chunks.length);
  };
  let next = 0;
  const addSharedBefore = (index: number): void => {
    for (let chunk = shared[next]; chunk !== undefined && chunk.index < index; chunk = shared[next]) {
      add(chunk);
      sharedBytes += chunkLength(image.sizeBytes, CHUNK_BYTES, chunk.index);
      next += 1;
    }
  };
  for await (const chunk of mapInOrder(readChunks(image, CHUNK_BYTES), WIDTH, store)) {
    addSharedBefore(chunk.index);
    // A node sends what it said was the same.
    if (shared[next]?.index === chunk.index) next += 1;
    add(chunk);
  }
  addSharedBefore(Number.POSITIVE_INFINITY);
  return { chunks, imageDigest: digest.digest().toString("hex"), readBytes, sharedBytes, sentBytes };
}

/** The lengths of the chunks that are there, by name. */
export async function listChunkSizes(
  { objects, organizationId, key }: Omit<ChunkTarget, "pacer">,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, number>> {
  const sizes = new Map<string, number>();
  for await (const object of objects.list(chunkDirectory(organizationId, key.id), signal))
    sizes.set(chunkName(object.key), object.sizeBytes);
  return sizes;
}

/** Throws unless every chunk is there in its full length. */
export async function requireStored(
  target: ChunkTarget,
  chunks: readonly ManifestChunk[],
  signal: AbortSignal,
): Promise<void> {
  const sizes = await listChunkSizes(target, signal);
  const lost = chunks.find(({ name, storedBytes }) => sizes.get(name) !== storedBytes);
  if (lost === undefined) return;
  throw new CaissonError(
    "SNAPSHOT_STORE_UNAVAILABLE",
    `The snapshot store lost the chunk ${lost.name} that it had stored: the upload begins again, with what is there`,
  );
}
