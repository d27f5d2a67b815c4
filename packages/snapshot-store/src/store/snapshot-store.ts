import { KeyedLock, step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { ObjectStore } from "@caisson/objects";
import { CHUNK_BYTES, type Chunk, chunkCount, chunkLength, sha256 } from "../chunk.ts";
import type { SnapshotHeader } from "../header.ts";
import { type ImageDifference, readChunks, type SourceImage } from "../image/read-chunks.ts";
import { ImageDigest } from "../image-digest.ts";
import { mapInOrder } from "../map-in-order.ts";
import { Backups } from "./backups.ts";
import { ChunkLists } from "./chunk-lists.ts";
import { CountedChunks } from "./counted-chunks.ts";
import { damagedKey } from "./damaged-chunks.ts";
import { installationIdOf, listInstallations } from "./installations.ts";
import {
  decodeManifest,
  encodeManifest,
  MANIFEST_BYTES_MAX,
  MANIFEST_CHUNKS_MAX,
  type Manifest,
  type ManifestChunk,
  manifestKeyId,
} from "./manifest.ts";
import { type InstallationKeys, type OrganizationKey, OrganizationKeys } from "./organization-keys.ts";
import { Pacer } from "./pacer.ts";
import { findSharedChunks } from "./shared-chunks.ts";
import {
  type ChunkTarget,
  listUsableChunks,
  requireStored,
  storeChunks,
  type UsableChunks,
  WIDTH,
} from "./store-chunks.ts";
import { StoreDamageError, UnreadableKeyError } from "./store-damage.ts";
import type { StoreMemory } from "./store-memory.ts";
import { type AcceptedStore, StoreOwnership } from "./store-ownership.ts";
import { chunkDirectory, chunkKey, chunkObjectBytesMax, unpackChunk } from "./stored-chunk.ts";
import { type Sweep, sweep } from "./sweep.ts";

export interface SnapshotStoreOptions {
  readonly objects: ObjectStore;
  /** Asked for with each use, never twice at once: without them the store cannot be used, and nothing else waits for them. */
  readonly installationKeys: () => Promise<InstallationKeys>;
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
  /** Of all chunks together. */
  readonly dataBytes: number;
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
  /** What was not read of it, because another snapshot in the store is known to have the same. */
  readonly sharedBytes: number;
  /** What was sent of it: compressed, and without what the store had already. */
  readonly sentBytes: number;
}

/** What takes the installation's keys. */
interface OpenedStore {
  readonly installationKeys: InstallationKeys;
  readonly keys: OrganizationKeys;
  readonly ownership: StoreOwnership;
}

/**
 * Snapshots in a store of objects: chunks by their content, compressed and encrypted, and a manifest for each snapshot, which is written last. docs/snapshot-store.md describes what lies there, and why nothing that an
 * upload counts on is deleted meanwhile.
 */
export class SnapshotStore implements AsyncDisposable {
  /** The installation's rows, in the same store. */
  readonly backups: Backups;
  readonly #options: SnapshotStoreOptions;
  readonly #objects: ObjectStore;
  readonly #pacer: Pacer;
  readonly #graceMs: number;
  readonly #opening = new KeyedLock();
  #opened: OpenedStore | null = null;
  readonly #counted = new CountedChunks();

  constructor(options: SnapshotStoreOptions) {
    const { objects, graceMs } = options;
    this.#options = options;
    this.#objects = objects;
    this.#pacer = new Pacer(options.bytesPerSecond);
    this.#graceMs = graceMs;
    this.backups = new Backups({
      ...{ objects, pacer: this.#pacer, counted: this.#counted, graceMs },
      keys: async () => (await this.#open()).keys,
      requireOwn: async (signal) => (await this.#open()).ownership.requireOwn(signal),
    });
  }

  /**
   * Stores a snapshot. It resolves when all of it is durable there and was found there again; until then nothing shows it. Whatever cuts it off leaves chunks, which the next try counts on. Reading ends with the
   * image; the caller disposes of that. Throws `NOT_SUPPORTED` for an image with more data than a manifest can name.
   *
   * With `difference` only that is read, and the rest is counted on, where the store has all of it: where its base is not in the store, or one of the chunks is not to be counted on, the image is read.
   */
  async upload(
    snapshot: StoredSnapshot,
    header: Omit<SnapshotHeader, "chunkBytes">,
    image: SourceImage,
    signal: AbortSignal,
    difference: ImageDifference | null = null,
  ): Promise<Upload> {
    const { organizationId } = snapshot;
    requireFit(snapshot, chunkCount(Math.min(header.dataBytes ?? image.sizeBytes, image.sizeBytes), CHUNK_BYTES));
    const { keys, ownership } = await this.#open();
    await step("snapshot-upload.owner", () => ownership.requireOwn(signal));
    const key = await step("snapshot-upload.key", () => keys.forWriting(organizationId, signal));
    const target = { objects: this.#objects, organizationId, key, pacer: this.#pacer };
    // From before the list on, so that no sweep deletes in between what it shows.
    using counted = this.#counted.countOn(organizationId);
    const usable = await step("snapshot-upload.list", () => listUsableChunks(target, counted.names, signal));
    const fit = (count: number) => requireFit(snapshot, count);
    const shared = difference === null ? null : await this.#findShared(difference, target, usable, signal);
    const source = difference === null || shared === null ? image : difference;
    const progress = { names: counted.names, requireFit: fit };
    const stored = await storeChunks(target, source, usable, progress, signal, shared ?? []);
    const { chunks, imageDigest, readBytes, sharedBytes, sentBytes } = stored;
    await step("snapshot-upload.confirm", () => requireStored(target, chunks, signal));
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
    return { manifest, imageDigest, storedBytes, readBytes, sharedBytes, sentBytes: sentBytes + bytes.length };
  }

  /** The chunks that need not be read; null: all is to be read. */
  async #findShared(
    difference: ImageDifference,
    { organizationId, key }: ChunkTarget,
    usable: UsableChunks,
    signal: AbortSignal,
  ): Promise<readonly ManifestChunk[] | null> {
    const base = manifestKey({ organizationId, id: difference.baseId });
    const found = await this.#manifest(organizationId, base, signal).catch((error: unknown) => {
      if (error instanceof StoreDamageError || error instanceof UnreadableKeyError) return null;
      throw error;
    });
    if (found?.key.id !== key.id) return null;
    return findSharedChunks(difference, found.manifest, key, usable);
  }

  /**
   * A snapshot that is in the store already, as after another look at a store that was accepted, or a commit that was cut off: its manifest can be read, and every chunk is there in its full length and not known as damaged. Null: it
   * is to be uploaded. Nothing of it is sent, and its image is not read.
   */
  async find(snapshot: StoredSnapshot, signal: AbortSignal): Promise<Upload | null> {
    await this.requireUsable(signal);
    return this.#find(snapshot, new ChunkLists(this.#objects, snapshot.organizationId), signal);
  }

  async #find(snapshot: StoredSnapshot, lists: ChunkLists, signal: AbortSignal): Promise<Upload | null> {
    const manifest = manifestKey(snapshot);
    const found = await this.#manifest(snapshot.organizationId, manifest, signal).catch((error: unknown) => {
      if (error instanceof StoreDamageError) return null;
      throw error;
    });
    if (found === null) return null;
    const { key, sizeBytes } = found;
    const { chunks, imageDigest } = found.manifest;
    const damaged = await lists.damaged(signal);
    const sizes = await lists.sizes(key, signal);
    if (chunks.some(({ name, storedBytes }) => damaged.has(name) || sizes.get(name) !== storedBytes)) return null;
    const storedBytes = chunks.reduce((sum, chunk) => sum + chunk.storedBytes, sizeBytes);
    return { manifest, imageDigest, storedBytes, readBytes: 0, sharedBytes: 0, sentBytes: 0 };
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
    const { sizeBytes, chunkBytes } = header;
    const dataBytes = chunks.reduce((sum, { index }) => sum + chunkLength(sizeBytes, chunkBytes, index), 0);
    return { header, imageDigest, dataBytes, chunks: () => mapInOrder(inTurn(chunks), WIDTH, fetch) };
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

  /**
   * As `list`, and of each whether it is whole, as far as its manifest and lists tell: every chunk is there in its full length, and none is known as damaged. Chunks are not read, nothing is written, and it need not be this server's store.
   */
  async *survey(signal: AbortSignal): AsyncGenerator<StoredSnapshot & { readonly isWhole: boolean }, void> {
    let lists = null as ChunkLists | null;
    const look = async (snapshot: StoredSnapshot) => {
      const { organizationId } = snapshot;
      if (lists?.organizationId !== organizationId) lists = new ChunkLists(this.#objects, organizationId);
      const found = await this.#find(snapshot, lists, signal).catch((error: unknown) => {
        if (error instanceof UnreadableKeyError) return null;
        throw error;
      });
      return { ...snapshot, isWhole: found !== null };
    };
    yield* mapInOrder(this.list(signal), WIDTH, look);
  }

  /** Every snapshot that has a manifest in the store, of all organizations. */
  async *list(signal: AbortSignal): AsyncGenerator<StoredSnapshot, void> {
    for await (const { key } of this.#objects.list("manifests/", signal)) {
      const [, organizationId, id] = key.split("/");
      if (organizationId !== undefined && id !== undefined) yield { organizationId, id };
    }
  }

  /** Deletes what no snapshot of an organization needs, a grace after it was found (`sweep.ts`). Nothing is deleted when a manifest cannot be read. */
  async sweep(organizationId: string, now: () => number, signal: AbortSignal): Promise<Sweep> {
    await this.requireUsable(signal);
    const [objects, graceMs] = [this.#objects, this.#graceMs];
    const manifests = () => this.#manifests(organizationId, signal);
    const isCounted = this.#counted.under(organizationId);
    return sweep({ objects, organizationId, manifests, isCounted, graceMs, now, signal });
  }

  /** Throws what keeps this server from using the store: it is away, lost its key, or is refused. */
  async requireUsable(signal: AbortSignal): Promise<void> {
    const { ownership } = await this.#open();
    await ownership.requireOwn(signal);
  }

  /** Throws what would keep this server from using the store, and takes it from nobody: who only looks claims nothing. */
  async requireFree(signal: AbortSignal): Promise<void> {
    const { ownership } = await this.#open();
    await ownership.requireFree(signal);
  }

  /**
   * Takes the store as it is for the installation's, by an administrator's word: also an empty one, and one that another server has used. `commit` has the installation remember what it is given, in the transaction that has every replica
   * uploaded again; what is there already is not sent again. With `key` the store is opened by that one, which `commit` makes the installation's: where `isMadeWith` says so, and the installation knows another one.
   */
  async accept(
    signal: AbortSignal,
    commit: (accepted: AcceptedStore) => Promise<void>,
    key: Buffer | null = null,
  ): Promise<void> {
    const { ownership } = await (key === null
      ? this.#open()
      : this.#opening.run("key", () => this.#openWith({ current: key, next: null })));
    await ownership.accept(signal, commit);
  }

  /** Whether the store has the installation of a key, also when that is not the one which this installation knows. Writes nothing, and takes the store from nobody. */
  async isMadeWith(key: Buffer, signal: AbortSignal): Promise<boolean> {
    return (await listInstallations(this.#objects, signal)).includes(installationIdOf(key));
  }

  /** Whether the store opens with another key than this one as well: a rotation is not at its end. Writes nothing. */
  async isMadeWithOthers(key: Buffer, signal: AbortSignal): Promise<boolean> {
    const own = installationIdOf(key);
    return (await listInstallations(this.#objects, signal)).some((id) => id !== own);
  }

  /** How many keys of organizations the store has. Throws unless the installation's key opens each; nothing is written. */
  async countKeys(signal: AbortSignal): Promise<number> {
    const { keys } = await this.#open();
    return keys.count(signal);
  }

  /**
   * Wraps the keys of all organizations by another key of the installation as well, which is to take the place of the one in use. What they encrypt stays as it is, and uploads go on meanwhile.
   *
   * When `commit` is called, each key is proven to open with the new one, and the store is the installation's with either. `commit` has the installation remember that: from then on whatever is written has both wraps, until `changeKey`. Whatever cuts it off, it can be
   * done again, with the same key or another one: the one in use opens everything. Returns how many keys there are.
   */
  async prepareKey(nextKey: Buffer, commit: () => Promise<void>, signal: AbortSignal): Promise<number> {
    await this.requireUsable(signal);
    const { keys, ownership, installationKeys } = await this.#open();
    const count = await keys.wrapFor(nextKey, signal);
    await step("keys-rotate.admit", () => ownership.admitKey(nextKey, signal));
    // Nobody finds the one here and the other in the installation.
    await this.#opening.run("key", async () => {
      await commit();
      this.#opened = { installationKeys: { ...installationKeys, next: nextKey }, keys, ownership };
    });
    return count;
  }

  /**
   * Uses the key of `prepareKey` from now on. Everything is proven once more to open with it, since a server without it may have had the store meanwhile. `commit` makes it the one that the installation knows: until then the former one opens everything, and from
   * then on the new one. The wraps by the former key go last (`finishKeyChange`). Returns how many keys there are.
   */
  async changeKey(nextKey: Buffer, commit: () => Promise<void>, signal: AbortSignal): Promise<number> {
    await this.requireUsable(signal);
    const { keys, ownership } = await this.#open();
    await keys.wrapFor(nextKey, signal);
    await step("keys-finish.admit", () => ownership.admitKey(nextKey, signal));
    await this.#opening.run("key", async () => {
      await commit();
      keys.changeKey();
      ownership.changeKey(nextKey);
      this.#opened = { installationKeys: { current: nextKey, next: null }, keys, ownership };
    });
    return this.finishKeyChange(signal);
  }

  /** The last part of `changeKey`: takes away what other keys than the one in use open. Again is success. */
  async finishKeyChange(signal: AbortSignal): Promise<number> {
    await this.requireUsable(signal);
    const { keys, ownership } = await this.#open();
    const count = await keys.wrapOnce(signal);
    await step("keys-finish.refuse", () => ownership.refuseOtherKeys(signal));
    return count;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened?.ownership[Symbol.asyncDispose]();
    await this.#objects[Symbol.asyncDispose]();
  }

  /** A key that was lost, or replaced, since the last use is noticed by the next one. One at a time, since the first may make the key. */
  #open(): Promise<OpenedStore> {
    return this.#opening.run("key", async () => this.#openWith(await this.#options.installationKeys()));
  }

  async #openWith(installationKeys: InstallationKeys): Promise<OpenedStore> {
    const { objects, memory, place } = this.#options;
    const { current, next } = installationKeys;
    const before = this.#opened;
    const isSameKey = before?.installationKeys.current.equals(current) === true;
    if (isSameKey && isSameNext(before.installationKeys.next, next)) return before;
    const keys = new OrganizationKeys(objects, installationKeys);
    const ownership = isSameKey
      ? before.ownership
      : new StoreOwnership({ objects, installationKey: current, memory, place });
    this.#opened = { installationKeys, keys, ownership };
    if (!isSameKey) await before?.ownership[Symbol.asyncDispose]();
    return this.#opened;
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
}

function isSameNext(one: InstallationKeys["next"], other: InstallationKeys["next"]): boolean {
  return Buffer.isBuffer(one) && Buffer.isBuffer(other) ? one.equals(other) : one === other;
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
