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
import { encodeManifest, MANIFEST_BYTES_MAX, type ManifestChunk, type StoredChunk } from "./manifest.ts";
import { OrganizationKeys } from "./organization-keys.ts";
import { Pacer } from "./pacer.ts";
import { SEAL_BYTES } from "./sealed-bytes.ts";
import { chunkDirectory, chunkIdOf, chunkKey, chunkName, newChunkName, packChunk } from "./stored-chunk.ts";

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

  get url(): string {
    return this.#objects.url;
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
        `The upload of ${snapshot.id} to ${this.url} took longer than half of snapshot_store.grace_hours: it begins again, with what is there`,
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
        `${this.url} does not give back the manifest of ${snapshot.id} as it was stored: it is stored again`,
      );
    const storedBytes = chunks.reduce((sum, chunk) => sum + chunk.storedBytes, bytes.length);
    return { manifest, imageDigest, storedBytes, readBytes, sentBytes: sentBytes + bytes.length };
  }

  /** Takes a snapshot out of the store; its chunks go when no other has them and the grace is over. Absent is success. */
  async delete(snapshot: StoredSnapshot): Promise<void> {
    await this.#objects.delete(manifestKey(snapshot));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#objects[Symbol.asyncDispose]();
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
        `The snapshot store ${this.url} was made with another installation key. Give this server the key of the one that made it (\`caisson keys export\` there), or choose another place in snapshot_store.url`,
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
      `${this.url} lost the chunk ${lost.name} that it had stored: the upload begins again, with what is there`,
    );
  }
}

/** Key of the object that makes a snapshot one of the store. */
export function manifestKey({ organizationId, id }: StoredSnapshot): string {
  return `manifests/${organizationId}/${id}`;
}
