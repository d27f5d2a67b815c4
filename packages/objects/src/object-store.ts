/**
 * The seam of stores of objects: whole pieces of bytes under names, somewhere else.
 *
 * Contract of every driver
 * - An object is there as a whole or not at all, and durable when `put` resolves. A put of a key that is there replaces it, also as a whole. Nothing here depends on conditional writes, which
 *   not every service has: writers of one key write what means the same.
 * - What `put` has stored, every `get` and `list` that begins later sees.
 * - Everything may be repeated; a call whose answer was lost may have happened.
 * - What passes by itself is tried again a few times, with growing pauses of random length. Then, and for whatever an administrator must mend, such as credentials or space, the error is
 *   `SNAPSHOT_STORE_UNAVAILABLE`. An aborted `signal` ends a call with the signal's reason at once, also where the store says nothing; what was under way may still happen.
 * - Keys are segments of `[A-Za-z0-9._-]`, none of them beginning with a dot, joined by `/`. What has another name was not put here, such as the marks of
 *   file systems and of tools that show folders: no list has it.
 */
export interface ObjectStore extends AsyncDisposable {
  /** Where it is, for people; without credentials. */
  readonly url: string;
  put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Null: there is none. One that is larger than `maxBytes` is an error, and is not read. */
  get(key: string, maxBytes: number, signal?: AbortSignal): Promise<Buffer | null>;
  /** All whose key begins with `prefix`, which ends at a `/`, in no certain order. */
  list(prefix: string, signal?: AbortSignal): AsyncGenerator<StoredObject, void>;
  /** Absent is success. */
  delete(key: string, signal?: AbortSignal): Promise<void>;
}

export interface StoredObject {
  readonly key: string;
  readonly sizeBytes: number;
}

const KEY = /^[A-Za-z0-9_-][A-Za-z0-9._-]*(?:\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/;

/** Keys are of our own making: another one is a mistake, and could lead out of a directory. */
export function requireKey(key: string): string {
  if (isKey(key)) return key;
  throw new Error(`${JSON.stringify(key)} is no key of an object`);
}

export function isKey(key: string): boolean {
  return KEY.test(key) && key.length <= 900;
}
