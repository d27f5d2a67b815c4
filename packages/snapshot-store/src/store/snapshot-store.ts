import { createHash } from "node:crypto";
import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { ObjectStore } from "@caisson/objects";
import { CHUNK_BYTES, type Chunk, sha256 } from "../chunk.ts";
import type { SnapshotHeader } from "../header.ts";
import { readChunks, type SourceImage } from "../image/read-chunks.ts";
import { ImageDigest } from "../image-digest.ts";
import { mapInOrder } from "../map-in-order.ts";
import { Condemned } from "./condemned.ts";
import {
  decodeManifest,
  encodeManifest,
  MANIFEST_BYTES_MAX,
  type Manifest,
  type ManifestChunk,
  manifestKeyId,
  type StoredChunk,
} from "./manifest.ts";
import { type OrganizationKey, OrganizationKeys } from "./organization-keys.ts";
import { Pacer } from "./pacer.ts";
import { SEAL_BYTES } from "./sealed-bytes.ts";
import { StoreDamageError } from "./store-damage.ts";
import {
  chunkDirectory,
  chunkIdOf,
  chunkKey,
  chunkName,
  chunkObjectBytesMax,
  newChunkName,
  packChunk,
  unpackChunk,
} from "./stored-chunk.ts";
import { type Sweep, sweep } from "./sweep.ts";

/** Chunks on their way at a time. */
const WIDTH = 4;

export interface SnapshotStoreOptions {
  readonly objects: ObjectStore;
  /** 32 bytes: wraps the keys of all organizations. */
  readonly installationKey: Buffer;
  /** What uploads may send together; null: as much as there is. */
  readonly bytesPerSecond: number | null;
  /** How long a chunk that no snapshot needs any more stays at least. Uploads that take longer than half of it begin again. */
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
  /** `damaged`: it is not what was stored. `unknown`: none was given, or the manifest cannot be read that would tell. */
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

/**
 * Snapshots in a store of objects: chunks by their content, compressed and encrypted, and a manifest for each snapshot, which is written last. docs/snapshot-store.md describes what lies there, and why nothing that an
 * upload counts on is deleted meanwhile.
 */
export class SnapshotStore implements AsyncDisposable {
  readonly #objects: ObjectStore;
  readonly #installationId: string;
  readonly #keys: OrganizationKeys;
  readonly #pacer: Pacer;
  readonly #graceMs: number;

  constructor({ objects, installationKey, bytesPerSecond, graceMs }: SnapshotStoreOptions) {
    this.#objects = objects;
    this.#installationId = createHash("sha256")
      .update("caisson installation\n")
      .update(installationKey)
      .digest("hex")
      .slice(0, 16);
    this.#keys = new OrganizationKeys(objects, installationKey);
    this.#pacer = new Pacer(bytesPerSecond);
    this.#graceMs = graceMs;
  }

  /**
   * Stores a snapshot. It resolves when all of it is durable there and was found there again; until then nothing shows it. Whatever cuts it off leaves chunks, which the next try counts on. Reading ends with the
   * image; the caller disposes of that.
   */
  async upload(
    snapshot: StoredSnapshot,
    header: Omit<SnapshotHeader, "chunkBytes">,
    image: SourceImage,
    signal: AbortSignal,
  ): Promise<Upload> {
    const { organizationId } = snapshot;
    const startedMs = performance.now();
    await step("snapshot-upload.owner", () => this.#requireOwn(signal));
    const key = await step("snapshot-upload.key", () => this.#keys.forWriting(organizationId, signal));
    const directory = chunkDirectory(organizationId, key.id);
    const usable = await step("snapshot-upload.list", () => this.#usableChunks(organizationId, directory, signal));
    const digest = new ImageDigest(image.sizeBytes, CHUNK_BYTES);
    const chunks: ManifestChunk[] = [];
    let [readBytes, sentBytes] = [0, 0];
    const put = async (id: string, bytes: Uint8Array): Promise<StoredChunk> => {
      const name = newChunkName(id);
      const object = await packChunk(key, name, bytes);
      await this.#pacer.pass(object.length, signal);
      await this.#objects.put(chunkKey(directory, name), object, signal);
      sentBytes += object.length;
      return { name, storedBytes: object.length };
    };
    const store = async ({ index, bytes }: Chunk): Promise<ManifestChunk> => {
      signal.throwIfAborted();
      const hash = sha256(bytes);
      const id = key.chunkId(hash);
      const stored = usable.get(id) ?? put(id, bytes);
      // The same chunk further on in the image waits for this one.
      usable.set(id, stored);
      readBytes += bytes.length;
      return { index, sha256: hash.toString("hex"), ...(await stored) };
    };
    for await (const chunk of mapInOrder(readChunks(image, CHUNK_BYTES), WIDTH, store)) {
      digest.add(chunk.index, Buffer.from(chunk.sha256, "hex"));
      chunks.push(chunk);
    }
    await step("snapshot-upload.confirm", () => this.#requireStored(directory, chunks, signal));
    if (performance.now() - startedMs > this.#graceMs / 2)
      throw new CaissonError(
        "SNAPSHOT_STORE_UNAVAILABLE",
        `The upload of ${snapshot.id} to ${this.#objects.url} took longer than half of snapshot_store.grace_hours: it begins again, with what is there`,
      );
    const imageDigest = digest.digest().toString("hex");
    const manifest = manifestKey(snapshot);
    const bytes = await encodeManifest(key, manifest, {
      header: { ...header, chunkBytes: CHUNK_BYTES },
      imageDigest,
      chunks,
    });
    await step("snapshot-upload.manifest", () => this.#objects.put(manifest, bytes, signal));
    const stored = await this.#objects.get(manifest, MANIFEST_BYTES_MAX, signal);
    if (stored === null || !stored.equals(bytes))
      throw new CaissonError(
        "SNAPSHOT_STORE_UNAVAILABLE",
        `${this.#objects.url} does not give back the manifest of ${snapshot.id} as it was stored: it is stored again`,
      );
    const storedBytes = chunks.reduce((sum, chunk) => sum + chunk.storedBytes, bytes.length);
    return { manifest, imageDigest, storedBytes, readBytes, sentBytes: sentBytes + bytes.length };
  }

  /** Takes a snapshot out of the store; its chunks go when no other has them and the grace is over. Absent is success. */
  async delete(snapshot: StoredSnapshot, signal?: AbortSignal): Promise<void> {
    await this.#objects.delete(manifestKey(snapshot), signal);
  }

  /**
   * Reads a snapshot back. The manifest is read first; every chunk is verified before it is yielded, and several are on their way at a time. Throws `SNAPSHOT_STORE_UNAVAILABLE` for what is missing or
   * damaged. Memory is bounded by a few chunks and the manifest.
   */
  async open(snapshot: StoredSnapshot, signal: AbortSignal): Promise<StoredImage> {
    const { organizationId, id } = snapshot;
    const { key, manifest } = await this.#manifest(organizationId, manifestKey(snapshot), signal);
    const { header, imageDigest, chunks } = manifest;
    const directory = chunkDirectory(organizationId, key.id);
    const fetch = async (chunk: ManifestChunk): Promise<Chunk> => {
      signal.throwIfAborted();
      const objectKey = chunkKey(directory, chunk.name);
      const object = await this.#objects.get(objectKey, chunkObjectBytesMax(header.chunkBytes), signal);
      if (object === null) throw this.#damaged(id, `its chunk ${chunk.index} (${objectKey}) is missing`);
      try {
        return { index: chunk.index, bytes: await unpackChunk(key, header, chunk, object) };
      } catch (cause) {
        throw this.#damaged(id, `its chunk ${chunk.index} (${objectKey}) is damaged`, cause);
      }
    };
    return { header, imageDigest, chunks: () => mapInOrder(inTurn(chunks), WIDTH, fetch) };
  }

  /**
   * Reads all of a snapshot in the store, and all of its image where one is given, and tells what is wrong with each; it mends nothing. It reads no faster than uploads may send. Throws only when the store, or the image,
   * cannot be read.
   */
  async verify(snapshot: StoredSnapshot, image: SourceImage | null, signal: AbortSignal): Promise<Verification> {
    let storedProblem: string | null = null;
    let imageState: Verification["imageState"] = "unknown";
    let readBytes = 0;
    let storedDigest: string | null = null;
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

  /** Deletes what no snapshot of an organization has any more, a grace after it was found (`sweep.ts`). Nothing is deleted when a manifest cannot be read. */
  async sweep(organizationId: string, nowMs: number, signal: AbortSignal): Promise<Sweep> {
    await this.#requireOwn(signal);
    const [objects, graceMs] = [this.#objects, this.#graceMs];
    const manifests = () => this.#manifests(organizationId, signal);
    return sweep({ objects, organizationId, manifests, graceMs, nowMs, signal });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#objects[Symbol.asyncDispose]();
  }

  async *#manifests(organizationId: string, signal: AbortSignal): AsyncGenerator<Manifest, void> {
    for await (const { key } of this.#objects.list(`manifests/${organizationId}/`, signal))
      yield (await this.#manifest(organizationId, key, signal)).manifest;
  }

  async #manifest(
    organizationId: string,
    objectKey: string,
    signal: AbortSignal,
  ): Promise<{ readonly key: OrganizationKey; readonly manifest: Manifest }> {
    const bytes = await this.#objects.get(objectKey, MANIFEST_BYTES_MAX, signal);
    if (bytes === null) throw this.#damaged(objectKey, "its manifest is missing");
    let keyId: string;
    try {
      keyId = manifestKeyId(bytes);
    } catch (cause) {
      throw this.#damaged(objectKey, "its manifest is damaged", cause);
    }
    const key = await this.#keys.get(organizationId, keyId, signal);
    try {
      return { key, manifest: await decodeManifest(key, objectKey, bytes) };
    } catch (cause) {
      throw this.#damaged(objectKey, "its manifest is damaged", cause);
    }
  }

  #damaged(what: string, reason: string, cause?: unknown): CaissonError {
    return new StoreDamageError(`Cannot read ${what} from ${this.#objects.url}: ${reason}`, { cause });
  }

  /** A store is of one installation: another one would delete chunks as of no snapshot. */
  async #requireOwn(signal: AbortSignal): Promise<void> {
    const key = `installations/${this.#installationId}`;
    const found: string[] = [];
    for await (const object of this.#objects.list("installations/", signal)) found.push(object.key);
    const other = found.find((one) => one !== key);
    if (other !== undefined)
      throw new CaissonError(
        "SNAPSHOT_STORE_UNAVAILABLE",
        `The snapshot store ${this.#objects.url} was made with another installation key. Give this server the key of the one that made it (\`caisson keys export\` there), or choose another place in snapshot_store.url`,
      );
    if (found.length === 0) await this.#objects.put(key, Buffer.from(JSON.stringify({ version: 1 })), signal);
  }

  /** The chunks that an upload which begins now may count on, by their id. */
  async #usableChunks(
    organizationId: string,
    directory: string,
    signal: AbortSignal,
  ): Promise<Map<string, StoredChunk | Promise<StoredChunk>>> {
    const condemned = await Condemned.read(this.#objects, organizationId, signal);
    const usable = new Map<string, StoredChunk | Promise<StoredChunk>>();
    for await (const { key, sizeBytes } of this.#objects.list(directory, signal)) {
      const name = chunkName(key);
      if (sizeBytes > SEAL_BYTES && !condemned.keys.has(key))
        usable.set(chunkIdOf(name), { name, storedBytes: sizeBytes });
    }
    return usable;
  }

  /** Throws unless every chunk is there in its full length. */
  async #requireStored(directory: string, chunks: readonly ManifestChunk[], signal: AbortSignal): Promise<void> {
    const sizes = new Map<string, number>();
    for await (const { key, sizeBytes } of this.#objects.list(directory, signal)) sizes.set(chunkName(key), sizeBytes);
    const lost = chunks.find(({ name, storedBytes }) => sizes.get(name) !== storedBytes);
    if (lost === undefined) return;
    throw new CaissonError(
      "SNAPSHOT_STORE_UNAVAILABLE",
      `${this.#objects.url} lost the chunk ${lost.name} that it had stored: the upload begins again, with what is there`,
    );
  }
}

async function* inTurn<T>(items: readonly T[]): AsyncGenerator<T, void> {
  yield* items;
}

/** Key of the object that makes a snapshot one of the store. */
function manifestKey({ organizationId, id }: StoredSnapshot): string {
  return `manifests/${organizationId}/${id}`;
}
