import { randomBytes } from "node:crypto";
import { step } from "@caisson/linux";
import { CaissonError } from "@caisson/model";
import type { ObjectStore } from "@caisson/objects";
import { CHUNK_BYTES, type Chunk } from "../chunk.ts";
import type { SourceImage } from "../image/read-chunks.ts";
import { mapInOrder } from "../map-in-order.ts";
import {
  BACKUP_MANIFEST_BYTES_MAX,
  type BackupContent,
  type BackupManifest,
  decodeBackup,
  encodeBackup,
  parseBackupId,
} from "./backup-manifest.ts";
import type { CountedChunks } from "./counted-chunks.ts";
import { MANIFEST_CHUNKS_MAX, manifestKeyId } from "./manifest.ts";
import type { OrganizationKey, OrganizationKeys } from "./organization-keys.ts";
import type { Pacer } from "./pacer.ts";
import {
  type ChunkTarget,
  listUsableChunks,
  requireStored,
  storeChunks,
  type UsableChunks,
  WIDTH,
} from "./store-chunks.ts";
import { StoreDamageError, UnreadableKeyError } from "./store-damage.ts";
import { chunkDirectory, chunkKey, chunkObjectBytesMax, unpackChunk } from "./stored-chunk.ts";
import { type Sweep, sweep } from "./sweep.ts";

/** Whose the chunks of backups are: no organization has such an id. */
const OWNER = "installation";
const DAY_MS = 24 * 3_600_000;

export interface BackupsOptions {
  readonly objects: ObjectStore;
  readonly pacer: Pacer;
  readonly counted: CountedChunks;
  readonly graceMs: number;
  keys(): Promise<OrganizationKeys>;
  /** Throws unless this server may write into the store. */
  requireOwn(signal: AbortSignal): Promise<void>;
}

/** What a list tells of a backup. */
export interface ListedBackup {
  /** The last part of its object's key. */
  readonly id: string;
  readonly atMs: number;
  /** Made by the schedule, and forgotten by it. */
  readonly isAutomatic: boolean;
}

export interface StoredBackup extends ListedBackup {
  /** Of the database's file. */
  readonly sizeBytes: number;
  /** What it takes in the store, chunks included that it shares with others. */
  readonly storedBytes: number;
  readonly sentBytes: number;
}

/** A backup that is read back. */
export interface OpenedBackup {
  readonly manifest: BackupManifest;
  /** Of the database's file: all that are not zeros, in order, each of them verified. */
  chunks(): AsyncGenerator<Chunk, void>;
}

/**
 * Backups of the installation's rows in its snapshot store: the database's file in chunks, as snapshots are stored, and `backups/ID`, which is written last. Without that there is no backup, so that nothing half there is one. Their
 * chunks have an owner of their own, for which the sweep keeps what any backup has, with the same grace. What a backup says of snapshots keeps none of them: docs/adr/0016-backups.md says why.
 */
export class Backups {
  readonly #options: BackupsOptions;
  /** What an automatic one counted on that came to no end, and the day that it was of: the next one of that day need not send it again. */
  #unfinished: { readonly day: number; readonly names: ReadonlySet<string> } | null = null;

  constructor(options: BackupsOptions) {
    this.#options = options;
  }

  /** The newest first. */
  async list(signal: AbortSignal): Promise<readonly ListedBackup[]> {
    const found = await Array.fromAsync(this.#options.objects.list("backups/", signal), ({ key }) => {
      const id = key.slice("backups/".length);
      const parsed = parseBackupId(id);
      return parsed === null ? [] : [{ id, ...parsed }];
    });
    return found.flat().sort((one, other) => other.atMs - one.atMs || (one.id < other.id ? 1 : -1));
  }

  /**
   * Stores a backup. It resolves when all of it is durable there and was found there again. `copy` makes the file, once it is certain that the store takes it; the caller disposes of it. A backup is always newer than those
   * that are there, whatever the clock says.
   */
  async create(
    copy: () => Promise<{ readonly image: SourceImage; readonly content: BackupContent }>,
    { isAutomatic, now }: { readonly isAutomatic: boolean; readonly now: () => number },
    signal: AbortSignal,
  ): Promise<StoredBackup> {
    const { objects, pacer, counted: allCounted } = this.#options;
    await step("backup-create.owner", () => this.#options.requireOwn(signal));
    const [newest] = await this.list(signal);
    const atMs = Math.max(Math.floor(now() / 1000) * 1000, (newest?.atMs ?? 0) + 1000);
    const { image, content } = await step("backup-create.copy", copy);
    const keys = await this.#options.keys();
    const key = await step("backup-create.key", () => keys.forWriting(OWNER, signal));
    const target = { objects, organizationId: OWNER, key, pacer };
    // From before the list on, so that no sweep deletes in between what it shows.
    using counted = allCounted.countOn(OWNER);
    // One that somebody asks for counts on nothing that is there.
    const usable: UsableChunks = isAutomatic
      ? await step("backup-create.list", () =>
          this.#usableChunks(target, { newest, day: dayOf(atMs), counted: counted.names }, signal),
        )
      : new Map();
    // What is sent is remembered until there is a manifest that has it.
    if (isAutomatic) this.#unfinished = { day: dayOf(atMs), names: counted.names };
    const progress = { names: counted.names, requireFit };
    const { chunks, imageDigest, sentBytes } = await storeChunks(target, image, usable, progress, signal);
    await step("backup-create.confirm", () => requireStored(target, chunks, signal));
    const id = newBackupId(atMs, isAutomatic);
    const objectKey = keyOf(id);
    const manifest = { ...content, sizeBytes: image.sizeBytes, imageDigest, chunks };
    const bytes = await encodeBackup(key, objectKey, manifest);
    // What nobody could read would end every sweep.
    await decodeBackup(key, objectKey, bytes);
    // Somebody may have given the store to another server since.
    await this.#options.requireOwn(signal);
    await step("backup-create.manifest", () => objects.put(objectKey, bytes, signal));
    const stored = await objects.get(objectKey, BACKUP_MANIFEST_BYTES_MAX, signal);
    if (stored === null || !stored.equals(bytes)) throw unavailable("the store does not give it back as it was stored");
    if (isAutomatic) this.#unfinished = null;
    const storedBytes = chunks.reduce((sum, chunk) => sum + chunk.storedBytes, bytes.length);
    return { id, atMs, isAutomatic, sizeBytes: image.sizeBytes, storedBytes, sentBytes: sentBytes + bytes.length };
  }

  /** Its chunks go when no other backup has them and the grace is over. False: there is none. */
  async delete(id: string, signal: AbortSignal): Promise<boolean> {
    if (!(await this.list(signal)).some((backup) => backup.id === id)) return false;
    await this.#options.requireOwn(signal);
    await step("backup-delete", () => this.#options.objects.delete(keyOf(id), signal));
    return true;
  }

  /** Throws `SNAPSHOT_STORE_UNAVAILABLE` for what is missing or damaged. The manifest is read first; chunks as they are asked for. Writes nothing into the store. */
  async open(id: string, signal: AbortSignal): Promise<OpenedBackup> {
    const found = await this.#read(id, signal);
    if (found === null) throw damaged(id, "it is not there");
    const { key, manifest } = found;
    const directory = chunkDirectory(OWNER, key.id);
    const size = { sizeBytes: manifest.sizeBytes, chunkBytes: CHUNK_BYTES };
    const fetch = async (chunk: BackupManifest["chunks"][number]): Promise<Chunk> => {
      signal.throwIfAborted();
      const objectKey = chunkKey(directory, chunk.name);
      const object = await this.#options.objects.get(objectKey, chunkObjectBytesMax(CHUNK_BYTES), signal);
      if (object === null) throw damaged(id, `its chunk ${chunk.index} (${objectKey}) is missing`);
      try {
        return { index: chunk.index, bytes: await unpackChunk(key, size, chunk, object) };
      } catch (cause) {
        throw damaged(id, `its chunk ${chunk.index} (${objectKey}) is damaged`, cause);
      }
    };
    return { manifest, chunks: () => mapInOrder(inTurn(manifest.chunks), WIDTH, fetch) };
  }

  /** As of snapshots: deletes what no backup has, a grace after it was found. Nothing is deleted when a backup cannot be read. */
  async sweep(now: () => number, signal: AbortSignal): Promise<Sweep> {
    await this.#options.requireOwn(signal);
    const { objects, counted, graceMs } = this.#options;
    const manifests = () => this.#manifests(signal);
    const isCounted = counted.under(OWNER);
    return sweep({ objects, organizationId: OWNER, manifests, isCounted, graceMs, now, signal });
  }

  /**
   * The chunks that an automatic backup may count on: those of the newest one, when that is of the same day and can be read, and of a try of that day that came to no end. The first one of a day counts on nothing that is there: bits that
   * change in one object harm the backups of a day, not all.
   */
  async #usableChunks(
    target: ChunkTarget,
    {
      newest,
      day,
      counted,
    }: { readonly newest: ListedBackup | undefined; readonly day: number; readonly counted: Set<string> },
    signal: AbortSignal,
  ): Promise<UsableChunks> {
    const names = new Set(this.#unfinished?.day === day ? this.#unfinished.names : []);
    if (newest !== undefined && dayOf(newest.atMs) === day) {
      const found = await this.#read(newest.id, signal).catch((error: unknown) => {
        if (isUnreadable(error)) return null;
        throw error;
      });
      for (const { name } of found?.manifest.chunks ?? []) names.add(name);
    }
    return names.size === 0 ? new Map() : listUsableChunks(target, counted, signal, (name) => names.has(name));
  }

  /** One that is deleted meanwhile is skipped. */
  async *#manifests(signal: AbortSignal): AsyncGenerator<BackupManifest, void> {
    for (const { id } of await this.list(signal)) {
      const found = await this.#read(id, signal);
      if (found !== null) yield found.manifest;
    }
  }

  async #read(
    id: string,
    signal: AbortSignal,
  ): Promise<{ readonly key: OrganizationKey; readonly manifest: BackupManifest } | null> {
    const objectKey = keyOf(id);
    const bytes = await this.#options.objects.get(objectKey, BACKUP_MANIFEST_BYTES_MAX, signal);
    if (bytes === null) return null;
    let keyId: string;
    try {
      keyId = manifestKeyId(bytes);
    } catch (cause) {
      throw damaged(id, "it is damaged", cause);
    }
    const key = await (await this.#options.keys()).get(OWNER, keyId, signal);
    try {
      return { key, manifest: await decodeBackup(key, objectKey, bytes) };
    } catch (cause) {
      if (cause instanceof CaissonError) throw cause;
      throw damaged(id, "it is damaged", cause);
    }
  }
}

/** Whether the object itself is the reason, and no store that is away. */
function isUnreadable(error: unknown): boolean {
  if (error instanceof StoreDamageError || error instanceof UnreadableKeyError) return true;
  return error instanceof CaissonError && error.code === "NOT_SUPPORTED";
}

/** Days are those of UTC. */
function dayOf(atMs: number): number {
  return Math.floor(atMs / DAY_MS);
}

function newBackupId(atMs: number, isAutomatic: boolean): string {
  const time = new Date(atMs).toISOString().replace(/[-:]|\.\d+/g, "");
  return `${time}-${isAutomatic ? "auto-" : ""}${randomBytes(4).toString("hex")}`;
}

function keyOf(id: string): string {
  return `backups/${id}`;
}

function requireFit(count: number): void {
  if (count > MANIFEST_CHUNKS_MAX) throw new CaissonError("NOT_SUPPORTED", "The database is too large for a backup");
}

function unavailable(reason: string): CaissonError {
  return new CaissonError("SNAPSHOT_STORE_UNAVAILABLE", `Cannot store the backup: ${reason}. Try it again`);
}

function damaged(id: string, reason: string, cause?: unknown): StoreDamageError {
  return new StoreDamageError(`Cannot read backup ${id} from the snapshot store: ${reason}`, { cause });
}

async function* inTurn<T>(items: readonly T[]): AsyncGenerator<T, void> {
  yield* items;
}
