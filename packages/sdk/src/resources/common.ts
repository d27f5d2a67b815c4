import type { WireDescendant } from "@caisson/protocol";
import { NotFoundError } from "../core/errors.ts";
import type { CreateRequestOptions, HttpClient, RequestOptions } from "../core/http.ts";
import { requireRecord } from "../core/http.ts";

/** Names an object by both its names. */
export interface ObjectReference {
  /** The id. */
  id: string;
  /** The slug that it has, or had when it was deleted. */
  slug: string;
}

/** What a volume was made from. */
export interface Parent extends ObjectReference {
  /** A snapshot of a volume, or an image that comes with the server. */
  kind: "snapshot" | "image";
}

/** A volume or snapshot that was made from another one, directly or over several steps. */
export interface Descendant extends ObjectReference {
  /** What it is. */
  kind: "volume" | "snapshot";
  /** Where it is. */
  region: string;
  /** When it was created. */
  createdAt: Date;
  /** The id of the object it was made from. */
  parentId: string;
}

/** Reads a moment that the server may leave out. */
export function toDate(text: string | null | undefined): Date | null {
  return text === null || text === undefined ? null : new Date(text);
}

/** Reads the form of the wire. */
export function toDescendant(value: unknown): Descendant {
  const { kind, id, slug, region, created_at, parent_id } = requireRecord(value) as unknown as WireDescendant;
  return { kind, id, slug, region, createdAt: new Date(created_at), parentId: parent_id };
}

/** The caller's key, or a new one: it makes the library's own repetitions of a creation safe. */
export function newIdempotencyKey(options: CreateRequestOptions | undefined): string {
  return options?.idempotencyKey ?? crypto.randomUUID();
}

/** Gets an object, or `null` when there is none. */
export async function getOrNull<T>(
  http: HttpClient,
  objectPath: string,
  decode: (value: unknown) => T,
  options: RequestOptions | undefined,
): Promise<T | null> {
  try {
    return decode((await http.send({ method: "GET", path: objectPath, options })).body);
  } catch (error) {
    if (error instanceof NotFoundError) return null;
    throw error;
  }
}
