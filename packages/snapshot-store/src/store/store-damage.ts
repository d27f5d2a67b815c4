import { CaissonError } from "@caisson/model";

/** What the store gives is not what was stored: unlike a store that is away, this does not pass by itself. */
export class StoreDamageError extends CaissonError {
  constructor(message: string, options?: { readonly cause?: unknown }) {
    super("SNAPSHOT_STORE_UNAVAILABLE", message, options);
    this.name = "StoreDamageError";
  }
}

/** The key of an organization cannot be read in either of its two places: it was changed or deleted there, or the installation's key is another one. */
export class UnreadableKeyError extends CaissonError {
  constructor(message: string) {
    super("SNAPSHOT_STORE_UNAVAILABLE", message);
    this.name = "UnreadableKeyError";
  }
}
