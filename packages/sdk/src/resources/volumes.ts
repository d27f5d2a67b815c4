import type { CreateRequestOptions, DeleteOptions, HttpClient, RequestOptions } from "../core/http.ts";
import { path } from "../core/http.ts";
import type { SizeText } from "../core/limits.ts";
import { fetchPage, type ListOptions, labelQuery, type PaginatedList, requireArray } from "../core/page.ts";
import { type Descendant, toDescendant } from "./common.ts";
import { createSnapshot, type Snapshot, type SnapshotInit } from "./snapshot.ts";
import { createVolume, getVolume, type Period, toVolume, type Volume, type VolumeInit } from "./volume.ts";

/** Which volumes to list. */
export interface VolumeListOptions extends ListOptions {
  /** Only those whose slug contains this text, small and capital letters alike. */
  search?: string;
  /** Only those that have all these labels. */
  labels?: Record<string, string>;
  /** List deleted volumes, which can still be restored, instead of the others. Default: false. */
  deleted?: boolean;
}

/** The organization's volumes. Ids and slugs are accepted alike. */
export class Volumes {
  readonly #http: HttpClient;

  /** @internal */
  constructor(http: HttpClient) {
    this.#http = http;
  }

  /** Creates a volume. Throws {@linkcode ConflictError} with `SLUG_ALREADY_IN_USE` when the slug is taken. */
  async create(init: VolumeInit, options?: CreateRequestOptions): Promise<Volume> {
    return await createVolume(this.#http, init, options);
  }

  /** Gets a volume, or `null` when there is none. */
  async get(idOrSlug: string, options?: RequestOptions): Promise<Volume | null> {
    return await getVolume(this.#http, idOrSlug, options);
  }

  /** Lists volumes, the newest first. Iterating the result yields the volumes of all pages. */
  async list(list: VolumeListOptions = {}, options?: RequestOptions): Promise<PaginatedList<Volume>> {
    const { search, labels, deleted } = list;
    const query = { search, deleted: deleted === true ? "true" : undefined, ...labelQuery(labels) };
    return await fetchPage(this.#http, { path: "/api/v2/volumes", query, decode: toVolume }, list, options);
  }

  /**
   * Deletes a volume: it is gone from lists and its slug is free at once. It can be restored by its id until its `purgeAt`, by default for 24 hours, or for one when the
   * server needs its space.
   * Throws {@linkcode ConflictError} with `VOLUME_IN_USE` while a sandbox holds it.
   */
  async delete(idOrSlug: string, options: DeleteOptions = {}): Promise<void> {
    const query = { now: options.now === true ? "true" : undefined };
    await this.#http.send({ method: "DELETE", path: path`/api/v2/volumes/${idOrSlug}`, query, options });
  }

  /** Frees the space of a deleted volume, by id, before its time. Nothing can restore it then. */
  async purge(id: string, options?: RequestOptions): Promise<void> {
    await this.#http.send({ method: "POST", path: path`/api/v2/volumes/${id}/purge`, isRepeatable: false, options });
  }

  /** Makes a snapshot of a volume; of one in use too, as {@linkcode Snapshot.consistency} then tells. */
  async snapshot(idOrSlug: string, init: SnapshotInit, options?: CreateRequestOptions): Promise<Snapshot> {
    return await createSnapshot(this.#http, idOrSlug, init, options);
  }

  /** Restores a deleted volume under its old slug, or under another one if that is taken meanwhile. */
  async restore(idOrSlug: string, init: { slug?: string } = {}, options?: RequestOptions): Promise<Volume> {
    const body = { slug: init.slug };
    return toVolume(
      (await this.#http.send({ method: "POST", path: path`/api/v2/volumes/${idOrSlug}/restore`, body, options })).body,
    );
  }

  /** Makes a volume larger. A size that it has already is a success. */
  async grow(idOrSlug: string, init: { capacity: number | SizeText }, options?: RequestOptions): Promise<Volume> {
    const request = {
      method: "POST",
      path: path`/api/v2/volumes/${idOrSlug}/grow`,
      body: { capacity: init.capacity },
      isRepeatable: true,
      options,
    } as const;
    return toVolume((await this.#http.send(request)).body);
  }

  /**
   * Has the server make a snapshot of a volume that often, also while it is in use, the first one at once; `null`: no more. Where the server has a snapshot store they go there, so that {@linkcode Volume.replicatedAt} is never much
   * older. It keeps all of the last hour, the last of each hour for a day, and the last of each day for 30 days, and what something needs.
   */
  async schedule(idOrSlug: string, init: { every: Period | null }, options?: RequestOptions): Promise<Volume> {
    const request = {
      method: "POST",
      path: path`/api/v2/volumes/${idOrSlug}/schedule`,
      body: { every: init.every },
      isRepeatable: true,
      options,
    } as const;
    return toVolume((await this.#http.send(request)).body);
  }

  /** Says that you know what went wrong with a volume: its `lastError` is `null` from here on. Nothing wrong is a success. */
  async acknowledge(idOrSlug: string, options?: RequestOptions): Promise<Volume> {
    const request = {
      method: "POST",
      path: path`/api/v2/volumes/${idOrSlug}/acknowledge`,
      isRepeatable: true,
      options,
    } as const;
    return toVolume((await this.#http.send(request)).body);
  }

  /** Replaces the labels of a volume. */
  async update(
    idOrSlug: string,
    change: { labels: Record<string, string> },
    options?: RequestOptions,
  ): Promise<Volume> {
    const body = { labels: change.labels };
    return toVolume(
      (await this.#http.send({ method: "PATCH", path: path`/api/v2/volumes/${idOrSlug}`, body, options })).body,
    );
  }

  /** Lists everything that was made from the volume: its snapshots, volumes made from those, and so on. */
  async descendants(idOrSlug: string, options?: RequestOptions): Promise<Descendant[]> {
    const response = await this.#http.send({
      method: "GET",
      path: path`/api/v2/volumes/${idOrSlug}/descendants`,
      options,
    });
    return requireArray(response.body).map(toDescendant);
  }
}
