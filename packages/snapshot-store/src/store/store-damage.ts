import { CaissonError } from "@caisson/model";

/** What the store gives is not what was stored: unlike a store that is away, this does not pass by itself. */
export class StoreDamageError extends CaissonError {
  constructor(message: string, options?: { readonly cause?: unknown }) {
    super("SNAPSHOT_STORE_UNAVAILABLE", message, options);
    this.name = "StoreDamageError";
  }
}
