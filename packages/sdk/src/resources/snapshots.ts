import type { DeleteOptions, HttpClient, RequestOptions } from "../core/http.ts";
import { path, requireRecord } from "../core/http.ts";
import { fetchPage, type ListOptions, labelQuery, type PaginatedList, requireArray } from "../core/page.ts";
import { type Descendant, toDescendant } from "./common.ts";
import { getSnapshot, type Snapshot, toSnapshot } from "./snapshot.ts";
import {
  exportSnapshot,
  importSnapshot,
  type SnapshotExportOptions,
  type SnapshotImportInit,
  type SnapshotImportSource,
} from "./transfer.ts";

/** Which snapshots to list. */
export interface SnapshotListOptions extends ListOptions {
  /** Only those whose slug contains this text, small and capital letters alike. */
  search?: string;
  /** Only those that have all these labels. */
  labels?: Record<string, string>;
  /** List deleted snapshots, which can still be restored, instead of the others. Default: false. */
  deleted?: boolean;
}

/** What a reading of everything has found. */
export interface SnapshotVerification {
  /** Id of the snapshot. */
  readonly id: string;
  /** Slug of the snapshot. */
  readonly slug: string;
  /** Its copy in the snapshot store. */
  readonly store: VerifiedPart;
  /** Its image in the pool. `"missing"`: it comes back from the store when it is used. */
  readonly pool: VerifiedPart;
  /** Bytes that were read. */
  readonly read: number;
  /** Its copy is damaged and its image whole: it is uploaded again. */
  readonly renewed: boolean;
}

/** What reading one of the two places of a snapshot has shown. */
export interface VerifiedPart {
  /** `"unknown"`: there is nothing sound to compare it with. */
  readonly state: "whole" | "damaged" | "missing" | "unknown";
  /** What is wrong, for people; `null`: nothing. */
  readonly problem: string | null;
}

/** As long as a timer can wait: 24 days. */
const NO_TIMEOUT_MS = 2 ** 31 - 1;

/** The organization's snapshots. Ids and slugs are accepted alike. They are made with `client.volumes.snapshot()`, or imported. */
export class Snapshots {
  readonly #http: HttpClient;

  /** @internal */
  constructor(http: HttpClient) {
    this.#http = http;
  }

  /** Gets a snapshot, or `null` when there is none. */
  async get(idOrSlug: string, options?: RequestOptions): Promise<Snapshot | null> {
    return await getSnapshot(this.#http, idOrSlug, options);
  }

  /** Lists snapshots, the newest first. Iterating the result yields the snapshots of all pages. */
  async list(list: SnapshotListOptions = {}, options?: RequestOptions): Promise<PaginatedList<Snapshot>> {
    const { search, labels, deleted } = list;
    const query = { search, deleted: deleted === true ? "true" : undefined, ...labelQuery(labels) };
    return await fetchPage(this.#http, { path: "/api/v2/snapshots", query, decode: toSnapshot }, list, options);
  }

  /** Deletes a snapshot; what was made from it stays. It can be restored by its id until its `purgeAt`, by default for 24 hours. */
  async delete(idOrSlug: string, options: DeleteOptions = {}): Promise<void> {
    const query = { now: options.now === true ? "true" : undefined };
    await this.#http.send({ method: "DELETE", path: path`/api/v2/snapshots/${idOrSlug}`, query, options });
  }

  /** Frees the space of a deleted snapshot, by id, before its time. Nothing can restore it then. */
  async purge(id: string, options?: RequestOptions): Promise<void> {
    await this.#http.send({ method: "POST", path: path`/api/v2/snapshots/${id}/purge`, isRepeatable: false, options });
  }

  /** Restores a deleted snapshot under its old slug, or under another one if that is taken meanwhile. */
  async restore(idOrSlug: string, init: { slug?: string } = {}, options?: RequestOptions): Promise<Snapshot> {
    const body = { slug: init.slug };
    return toSnapshot(
      (await this.#http.send({ method: "POST", path: path`/api/v2/snapshots/${idOrSlug}/restore`, body, options }))
        .body,
    );
  }

  /** Replaces the labels of a snapshot. */
  async update(
    idOrSlug: string,
    change: { labels: Record<string, string> },
    options?: RequestOptions,
  ): Promise<Snapshot> {
    const body = { labels: change.labels };
    return toSnapshot(
      (await this.#http.send({ method: "PATCH", path: path`/api/v2/snapshots/${idOrSlug}`, body, options })).body,
    );
  }

  /**
   * Exports a snapshot as a stream, which is read at the pace of its reader: one file that {@linkcode import} of any server takes, and that shows it when a bit of it changed. The snapshot can be
   * used meanwhile, and deleted; when it is deleted for good, the stream fails.
   *
   * ```ts
   * const file = await client.snapshots.export("tools-v1");
   * await pipeline(file, createWriteStream("tools-v1.snapshot"));
   * ```
   */
  async export(idOrSlug: string, options: SnapshotExportOptions = {}): Promise<ReadableStream<Uint8Array>> {
    return await exportSnapshot(this.#http, idOrSlug, options);
  }

  /**
   * Makes a snapshot of what {@linkcode export} gave, here or on another server, or of a raw image. The source is read as fast as the server takes it, once, and the call is never
   * repeated. It resolves when all was verified and the snapshot is durable; whatever goes wrong before, such as a file that is damaged or was cut (`INVALID_SNAPSHOT_FILE`), leaves nothing.
   */
  async import(source: SnapshotImportSource, init: SnapshotImportInit, options?: RequestOptions): Promise<Snapshot> {
    return await importSnapshot(this.#http, source, init, options);
  }

  /**
   * Asks for a snapshot to be brought into the server's snapshot store, whatever its policy, in the background: it is tried until it succeeds. `replication.state` of {@linkcode get} becomes `"replicated"` when all of it
   * is there. One that failed is tried at once; one that is there already stays as it is.
   */
  async replicate(idOrSlug: string, options?: RequestOptions): Promise<Snapshot> {
    return toSnapshot(
      (
        await this.#http.send({
          method: "POST",
          path: path`/api/v2/snapshots/${idOrSlug}/replicate`,
          body: {},
          options,
        })
      ).body,
    );
  }

  /**
   * Reads a replicated snapshot whole, in the snapshot store and in its pool, and tells whether each is what was replicated. A damaged copy is uploaded again from a whole image. It takes as long as the reading does, and has no time limit unless
   * `timeoutMs` gives one.
   */
  async verify(idOrSlug: string, options?: RequestOptions): Promise<SnapshotVerification> {
    const request = {
      method: "POST",
      path: path`/api/v2/snapshots/${idOrSlug}/verify`,
      body: {},
      options: { timeoutMs: NO_TIMEOUT_MS, ...options },
    } as const;
    return requireRecord((await this.#http.send(request)).body) as unknown as SnapshotVerification;
  }

  /** Lists everything that was made from the snapshot: volumes, their snapshots, and so on. */
  async descendants(idOrSlug: string, options?: RequestOptions): Promise<Descendant[]> {
    const response = await this.#http.send({
      method: "GET",
      path: path`/api/v2/snapshots/${idOrSlug}/descendants`,
      options,
    });
    return requireArray(response.body).map(toDescendant);
  }
}
