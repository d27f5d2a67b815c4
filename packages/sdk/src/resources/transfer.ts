import { bodyStream, type HttpClient, parseBody, path, type RequestOptions, readBody } from "../core/http.ts";
import { type Snapshot, toSnapshot } from "./snapshot.ts";

/** {@linkcode RequestOptions} of an export. `timeoutMs` is for its beginning. */
export interface SnapshotExportOptions extends RequestOptions {
  /**
   * The image of the ext4 file system itself, zeros included. Nothing in it shows when a bit of it changed, and labels and the like are not in it. Default: false, a snapshot file, which
   * verifies itself.
   */
  raw?: boolean;
}

/** What to make of what is imported. */
export interface SnapshotImportInit {
  /** The name, under the rules of volume slugs; unique among the organization's volumes and snapshots. */
  slug: string;
  /** Where. Default: the server's first region. */
  region?: string;
  /** Labels. Default: those that it was exported with. */
  labels?: Record<string, string>;
  /** It is the image of an ext4 file system, without a partition table. Default: false, a snapshot file. */
  raw?: boolean;
  /** Sandboxes may boot from it; only with `raw`, because a snapshot file says it itself. Default: false. */
  bootable?: boolean;
}

/** Where the bytes of an import come from: a stream, or something that yields them in pieces. */
export type SnapshotImportSource = ReadableStream<Uint8Array> | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export async function exportSnapshot(
  http: HttpClient,
  idOrSlug: string,
  { raw, ...options }: SnapshotExportOptions,
): Promise<ReadableStream<Uint8Array>> {
  const query = { raw: raw === true ? "true" : undefined };
  const request = { method: "GET", path: path`/api/v2/snapshots/${idOrSlug}/export`, query, options } as const;
  return bodyStream(await http.stream(request), request);
}

export async function importSnapshot(
  http: HttpClient,
  source: SnapshotImportSource,
  { slug, region, labels, raw, bootable }: SnapshotImportInit,
  options?: RequestOptions,
): Promise<Snapshot> {
  const request = {
    method: "POST",
    path: "/api/v2/snapshots/import",
    query: {
      slug,
      region,
      raw: raw === true ? "true" : undefined,
      bootable: bootable === true ? "true" : undefined,
      ...Object.fromEntries(Object.entries(labels ?? {}).map(([key, value]) => [`labels[${key}]`, value])),
    },
    body: source instanceof ReadableStream ? source : ReadableStream.from(source),
    options,
  } as const;
  const response = await http.stream(request);
  return toSnapshot(parseBody(await readBody(response, request)));
}
