import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { ObjectStore } from "@caisson/objects";
import { CHUNK_BYTES, type Chunk, chunkCount, sha256 } from "../chunk.ts";
import type { SnapshotHeader } from "../header.ts";
import { readChunks, type SourceImage } from "../image/read-chunks.ts";
import { ImageDigest } from "../image-digest.ts";
import { mapInOrder } from "../map-in-order.ts";
import { Condemned } from "./condemned.ts";
import { damagedKey, listDamagedChunks } from "./damaged-chunks.ts";
import {
  decodeManifest,
  encodeManifest,
  MANIFEST_BYTES_MAX,
  MANIFEST_CHUNKS_MAX,
  type Manifest,
  type ManifestChunk,
  manifestKeyId,
  type StoredChunk,
} from "./manifest.ts";
import { type OrganizationKey, OrganizationKeys } from "./organization-keys.ts";
import { Pacer } from "./pacer.ts";
import { StoreDamageError } from "./store-damage.ts";
import type { RememberedStore, StoreMemory } from "./store-memory.ts";
import { StoreOwnership } from "./store-ownership.ts";
import {
  chunkDirectory,
  chunkKey,
  chunkName,
  chunkObjectBytesMax,
  packChunk,
  parseChunkName,
  unpackChunk,
} from "./stored-chunk.ts";
import { type Sweep, sweep } from "./sweep.ts";

/** Chunks on their way at a time. */
const WIDTH = 4;

export interface SnapshotStoreOptions {
  readonly objects: ObjectStore;
  /** 32 bytes: wraps the keys of all organizations. Asked for until it is there: the store cannot be used before, and nothing else waits for it. */
  readonly installationKey: () => Promise<Buffer>;
  readonly memory: StoreMemory;
  /** As of `StoreOwnership`. */
  readonly place: string;
  /** What uploads may send together; null: as much as there is. */
  readonly bytesPerSecond: number | null;
  /** How long a chunk that no snapshot needs any more stays at least. */
  readonly graceMs: number;
}

/** Which snapshot, and whose. */
export interface StoredSnapshot {
  readonly organizationId: string;
  readonly id: string;
}

/** What a reading of everything has found. */
export interface Verification {
  /** Of the snapshot in the store, as a sentence for people; null: it is whole. */
  readonly storedProblem: string | null;
  /** `damaged`: it is not what was stored. `unknown`: none was given, or nothing tells what it should be. */
  readonly imageState: "whole" | "damaged" | "unknown";
  readonly readBytes: number;
}

/** A snapshot that is read back. */
export interface StoredImage {
  readonly header: SnapshotHeader;
  /** Of the image (docs/snapshot-files.md), in hexadecimal. */
  readonly imageDigest: string;
  /** All that are not zeros, in order. */
  chunks(): AsyncGenerator<Chunk, void>;
}

export interface Upload {
  /** Key of the manifest's object. */
  readonly manifest: string;
  /** Of the image (docs/snapshot-files.md), in hexadecimal. */
  readonly imageDigest: string;
  /** What the snapshot takes in the store, chunks included that it shares with others. */
  readonly storedBytes: number;
  /** What was read of the image. */
  readonly readBytes: number;
  /** What was sent of it: compressed, and without what the store had already. */
  readonly sentBytes: number;
}

/** What takes the installation's key. */
interface OpenedStore {
  readonly keys: OrganizationKeys;
  readonly ownership: StoreOwnership;
}

/**
 * Snapshots in a store of objects: chunks by their content, compressed and encrypted, and a manifest for each snapshot, which is written last. docs/snapshot-store.md describes what lies there, and why nothing that an
 * upload counts on is deleted meanwhile.
 */
export class SnapshotStore implements AsyncDisposable {
  readonly #options: SnapshotStoreOptions;
  readonly #objects: ObjectStore;
  readonly #pacer: Pacer;
  readonly #graceMs: number;
  #opened: Promise<OpenedStore> | null = null;
  /** Names of the chunks that each upload under way counts on, by organization. One server writes: what no upload of it counts on, none does. */
  readonly #counted = new Map<string, Set<Set<string>>>();

  constructor(options: SnapshotStoreOptions) {
    this.#options = options;
    this.#objects = options.objects;
    this.#pacer = new Pacer(options.bytesPerSecond);
    this.#graceMs = options.graceMs;
  }

  /**
   * Stores a snapshot. It resolves when all of it is durable there and was found there again; until then nothing shows it. Whatever cuts it off leaves chunks, which the next try counts on. Reading ends with the
   * image; the caller disposes of that. Throws `NOT_SUPPORTED` for an image with more data than a manifest can name.
   */
  async upload(
    snapshot: StoredSnapshot,
    header: Omit<SnapshotHeader, "chunkBytes">,
    image: SourceImage,
    signal: AbortSignal,
  ): Promise<Upload> {
    const { organizationId } = snapshot;
    requireFit(snapshot, chunkCount(Math.min(header.dataBytes ?? image.sizeBytes, image.sizeBytes), CHUNK_BYTES));
    const { keys, ownership } = await this.#open();
    await step("snapshot-upload.owner", () => ownership.requireOwn(signal));
    const key = await step("snapshot-upload.key", () => keys.forWriting(organizationId, signal));
    const directory = chunkDirectory(organizationId, key.id);
    // From before the list on, so that no sweep deletes in between what it shows.
    using counted = this.#countOn(organizationId);
    const usable = await step("snapshot-upload.list", () => this.#usableChunks(organizationId, directory, signal));
    for (const { name } of usable.values()) counted.names.add(name);
    const stored = new Map<string, StoredChunk | Promise<StoredChunk>>(usable);
    const digest = new ImageDigest(image.sizeBytes, CHUNK_BYTES);
    const chunks: ManifestChunk[] = [];
    let [readBytes, sentBytes] = [0, 0];
    const put = async (id: string, bytes: Uint8Array): Promise<StoredChunk> => {
      const { name, object } = await packChunk(key, id, bytes);
      counted.names.add(name);
      await this.#pacer.pass(object.length, signal);
      await this.#objects.put(chunkKey(directory, name), object, signal);
      sentBytes += object.length;
      return { name, storedBytes: object.length };
    };
    const store = async ({ index, bytes }: Chunk): Promise<ManifestChunk> => {
      signal.throwIfAborted();
      const hash = sha256(bytes);
      const id = key.chunkId(hash);
      const one = stored.get(id) ?? put(id, bytes);
      // The same chunk further on in the image waits for this one.
      stored.set(id, one);
      readBytes += bytes.length;
      return { index, sha256: hash.toString("hex"), ...(await one) };
    };
    for await (const chunk of mapInOrder(readChunks(image, CHUNK_BYTES), WIDTH, store)) {
      digest.add(chunk.index, Buffer.from(chunk.sha256, "hex"));
      chunks.push(chunk);
      requireFit(snapshot, chunks.length);
    }
    await step("snapshot-upload.confirm", () => this.#requireStored(directory, chunks, signal));
    const imageDigest = digest.digest().toString("hex");
    const manifest = manifestKey(snapshot);
    const bytes = await encodeManifest(key, manifest, {
      header: { ...header, chunkBytes: CHUNK_BYTES },
      imageDigest,
      chunks,
    });
    // What nobody could read would end every sweep: it is not put there, and what is there is compared with this.
    await decodeManifest(key, manifest, bytes);
    // Somebody may have given the store to another server since.
    await ownership.requireOwn(signal);
    await step("snapshot-upload.manifest", () => this.#objects.put(manifest, bytes, signal));
    const read = await this.#objects.get(manifest, MANIFEST_BYTES_MAX, signal);
    if (read === null || !read.equals(bytes))
      throw new CaissonError(
        "SNAPSHOT_STORE_UNAVAILABLE",
        `The snapshot store does not give back the manifest of ${snapshot.id} as it was stored: it is stored again`,
      );
    const storedBytes = chunks.reduce((sum, chunk) => sum + chunk.storedBytes, bytes.length);
    return { manifest, imageDigest, storedBytes, readBytes, sentBytes: sentBytes + bytes.length };
  }

  /**
   * A snapshot that is in the store already, as after another look at a store that was accepted, or a commit that was cut off: its manifest can be read, and every chunk is there in its full length and not known as damaged. Null: it
   * is to be uploaded. Nothing of it is sent, and its image is not read.
   */
  async find(snapshot: StoredSnapshot, signal: AbortSignal): Promise<Upload | null> {
    await this.requireUsable(signal);
    const { organizationId } = snapshot;
    const manifest = manifestKey(snapshot);
    const found = await this.#manifest(organizationId, manifest, signal).catch((error: unknown) => {
      if (error instanceof StoreDamageError) return null;
      throw error;
    });
    if (found === null) return null;
    const { key, sizeBytes } = found;
    const { chunks, imageDigest } = found.manifest;
    const damaged = await listDamagedChunks(this.#objects, organizationId, signal);
    const sizes = await this.#listChunks(chunkDirectory(organizationId, key.id), signal);
    if (chunks.some(({ name, storedBytes }) => damaged.has(name) || sizes.get(name) !== storedBytes)) return null;
    const storedBytes = chunks.reduce((sum, chunk) => sum + chunk.storedBytes, sizeBytes);
    return { manifest, imageDigest, storedBytes, readBytes: 0, sentBytes: 0 };
  }

  /** Takes a snapshot out of the store; its chunks go when no other has them and the grace is over. Absent is success. */
  async delete(snapshot: StoredSnapshot, signal: AbortSignal): Promise<void> {
    const { ownership } = await this.#open();
    await ownership.requireOwn(signal);
    await this.#objects.delete(manifestKey(snapshot), signal);
  }

  /**
   * Reads a snapshot back. The manifest is read first; every chunk is verified before it is yielded, and several are on their way at a time. Throws `SNAPSHOT_STORE_UNAVAILABLE` for what is missing or
   * damaged; a chunk that is damaged is marked, so that later uploads do not count on it. Memory is bounded by a few chunks and the manifest.
   */
  async open(snapshot: StoredSnapshot, signal: AbortSignal): Promise<StoredImage> {
    const { organizationId, id } = snapshot;
    const { ownership } = await this.#open();
    await ownership.requireSame(signal);
    const found = await this.#manifest(organizationId, manifestKey(snapshot), signal);
    if (found === null) throw this.#damaged(manifestKey(snapshot), "its manifest is missing");
    const { key, manifest } = found;
    const { header, imageDigest, chunks } = manifest;
    const directory = chunkDirectory(organizationId, key.id);
    const fetch = async (chunk: ManifestChunk): Promise<Chunk> => {
      signal.throwIfAborted();
      const objectKey = chunkKey(directory, chunk.name);
      const object = await this.#objects.get(objectKey, chunkObjectBytesMax(header.chunkBytes), signal);
      if (object === null) throw this.#damaged(id, `its chunk ${chunk.index} (${objectKey}) is missing`);
      try {
        return { index: chunk.index, bytes: await unpackChunk(key, header, chunk, object) };
      } catch (error) {
        const cause = await this.#markDamaged(organizationId, chunk.name, error, signal);
        throw this.#damaged(id, `its chunk ${chunk.index} (${objectKey}) is damaged`, cause);
      }
    };
    return { header, imageDigest, chunks: () => mapInOrder(inTurn(chunks), WIDTH, fetch) };
  }

  /**
   * Reads all of a snapshot in the store, and all of its image where one is given, and tells what is wrong with each; it mends nothing. `knownDigest`: of the image, for a manifest that does not tell. It reads no faster than uploads may send. Throws only when the store, or the image,
   * cannot be read.
   */
  async verify(
    snapshot: StoredSnapshot,
    image: SourceImage | null,
    knownDigest: string | null,
    signal: AbortSignal,
  ): Promise<Verification> {
    let storedProblem: string | null = null;
    let imageState: Verification["imageState"] = "unknown";
    let readBytes = 0;
    let storedDigest = knownDigest;
    try {
      const stored = await this.open(snapshot, signal);
      storedDigest = stored.imageDigest;
      for await (const { bytes } of stored.chunks()) {
        readBytes += bytes.length;
        await this.#pacer.pass(bytes.length, signal);
      }
    } catch (error) {
      if (!(error instanceof StoreDamageError)) throw error;
      storedProblem = error.message;
    }
    if (image !== null && storedDigest !== null) {
      const digest = new ImageDigest(image.sizeBytes, CHUNK_BYTES);
      for await (const { index, bytes } of readChunks(image, CHUNK_BYTES)) {
        signal.throwIfAborted();
        digest.add(index, sha256(bytes));
        readBytes += bytes.length;
        await this.#pacer.pass(bytes.length, signal);
      }
      imageState = digest.digest().toString("hex") === storedDigest ? "whole" : "damaged";
    }
    return { storedProblem, imageState, readBytes };
  }

  /** Deletes what no snapshot of an organization needs, a grace after it was found (`sweep.ts`). Nothing is deleted when a manifest cannot be read. */
  async sweep(organizationId: string, now: () => number, signal: AbortSignal): Promise<Sweep> {
    await this.requireUsable(signal);
    const [objects, graceMs] = [this.#objects, this.#graceMs];
    const manifests = () => this.#manifests(organizationId, signal);
    const counted = [...(this.#counted.get(organizationId) ?? [])];
    const isCounted = (name: string) => counted.some((names) => names.has(name));
    return sweep({ objects, organizationId, manifests, isCounted, graceMs, now, signal });
  }

  /** Throws what keeps this server from using the store: it is away, lost its key, or is refused. */
  async requireUsable(signal: AbortSignal): Promise<void> {
    const { ownership } = await this.#open();
    await ownership.requireOwn(signal);
  }

  /**
   * Takes the store as it is for the installation's, by an administrator's word: also an empty one, and one that another server has used. Returns what the installation is to remember, in the transaction that has every replica uploaded
   * again; what is there already is not sent again.
   */
  async accept(signal: AbortSignal): Promise<RememberedStore> {
    const { ownership } = await this.#open();
    return ownership.accept(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const opened = await this.#opened?.catch(() => null);
    await opened?.ownership[Symbol.asyncDispose]();
    await this.#objects[Symbol.asyncDispose]();
  }

  #countOn(organizationId: string): Disposable & { readonly names: Set<string> } {
    const uploads = this.#counted.get(organizationId) ?? new Set();
    this.#counted.set(organizationId, uploads);
    const names = new Set<string>();
    uploads.add(names);
    return {
      names,
      [Symbol.dispose]: () => {
        uploads.delete(names);
        if (uploads.size === 0 && this.#counted.get(organizationId) === uploads) this.#counted.delete(organizationId);
      },
    };
  }

  #open(): Promise<OpenedStore> {
    this.#opened ??= this.#openWithKey().catch((error: unknown) => {
      this.#opened = null;
      throw error;
    });
    return this.#opened;
  }

  async #openWithKey(): Promise<OpenedStore> {
    const { objects, memory, place } = this.#options;
    const installationKey = await this.#options.installationKey();
    return {
      keys: new OrganizationKeys(objects, installationKey),
      ownership: new StoreOwnership({ objects, installationKey, memory, place }),
    };
  }

  /** One that is taken out of the store meanwhile is skipped. */
  async *#manifests(organizationId: string, signal: AbortSignal): AsyncGenerator<Manifest, void> {
    for await (const { key } of this.#objects.list(`manifests/${organizationId}/`, signal)) {
      const found = await this.#manifest(organizationId, key, signal);
      if (found !== null) yield found.manifest;
    }
  }

  /** Null: there is none. */
  async #manifest(
    organizationId: string,
    objectKey: string,
    signal: AbortSignal,
  ): Promise<{ readonly key: OrganizationKey; readonly manifest: Manifest; readonly sizeBytes: number } | null> {
    const bytes = await this.#objects.get(objectKey, MANIFEST_BYTES_MAX, signal);
    if (bytes === null) return null;
    let keyId: string;
    try {
      keyId = manifestKeyId(bytes);
    } catch (cause) {
      throw this.#damaged(objectKey, "its manifest is damaged", cause);
    }
    const { keys } = await this.#open();
    const key = await keys.get(organizationId, keyId, signal);
    try {
      return { key, manifest: await decodeManifest(key, objectKey, bytes), sizeBytes: bytes.length };
    } catch (cause) {
      throw this.#damaged(objectKey, "its manifest is damaged", cause);
    }
  }

  #damaged(what: string, reason: string, cause?: unknown): CaissonError {
    return new StoreDamageError(`Cannot read ${what} from the snapshot store: ${reason}`, { cause });
  }

  /** Returns what to tell as the cause: why the chunk is damaged, and why the mark is not there, if it is not. */
  async #markDamaged(organizationId: string, name: string, cause: unknown, signal: AbortSignal): Promise<unknown> {
    try {
      await this.#objects.put(damagedKey(organizationId, name), Buffer.alloc(0), signal);
      return cause;
    } catch (error) {
      return new AggregateError([cause, error], "it could not be marked as damaged either", { cause });
    }
  }

  /** The chunks that an upload which begins now may count on, by their id. */
  async #usableChunks(
    organizationId: string,
    directory: string,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, StoredChunk>> {
    const condemned = await Condemned.read(this.#objects, organizationId, signal);
    const damaged = await listDamagedChunks(this.#objects, organizationId, signal);
    const usable = new Map<string, StoredChunk>();
    for await (const { key, sizeBytes } of this.#objects.list(directory, signal)) {
      const name = chunkName(key);
      const said = parseChunkName(name);
      // One that was cut has another length than its name says.
      if (said?.storedBytes !== sizeBytes || condemned.keys.has(key) || damaged.has(name)) continue;
      usable.set(said.id, { name, storedBytes: sizeBytes });
    }
    return usable;
  }

  /** The lengths of the chunks that are there, by name. */
  async #listChunks(directory: string, signal: AbortSignal): Promise<ReadonlyMap<string, number>> {
    const sizes = new Map<string, number>();
    for await (const { key, sizeBytes } of this.#objects.list(directory, signal)) sizes.set(chunkName(key), sizeBytes);
    return sizes;
  }

  /** Throws unless every chunk is there in its full length. */
  async #requireStored(directory: string, chunks: readonly ManifestChunk[], signal: AbortSignal): Promise<void> {
    const sizes = await this.#listChunks(directory, signal);
    const lost = chunks.find(({ name, storedBytes }) => sizes.get(name) !== storedBytes);
    if (lost === undefined) return;
    throw new CaissonError(
      "SNAPSHOT_STORE_UNAVAILABLE",
      `The snapshot store lost the chunk ${lost.name} that it had stored: the upload begins again, with what is there`,
    );
  }
}

function requireFit({ id }: StoredSnapshot, count: number): void {
  if (count <= MANIFEST_CHUNKS_MAX) return;
  const [mostGib, gib] = [MANIFEST_CHUNKS_MAX, count].map((chunks) => Math.floor((chunks * CHUNK_BYTES) / 2 ** 30));
  throw new CaissonError(
    "NOT_SUPPORTED",
    `Cannot bring ${id} into the snapshot store: its image has ${gib} GiB of data or more, and at most ${mostGib} GiB fit into one snapshot there. Export it instead`,
  );
}

async function* inTurn<T>(items: readonly T[]): AsyncGenerator<T, void> {
  yield* items;
}

/** Key of the object that makes a snapshot one of the store. */
function manifestKey({ organizationId, id }: StoredSnapshot): string {
  return `manifests/${organizationId}/${id}`;
}
