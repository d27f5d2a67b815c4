import { CaissonError } from "@caisson/model";

/**
 * The error of a store of objects that cannot do what it is asked to. Tenants read its message: `reason` is a clause, with what to do where that is known, and names neither the store nor what lies there. The log has the causes
 * beside it: `detail` is for administrators.
 */
export function storeUnavailable(url: string, reason: string, detail: string, cause?: unknown): CaissonError {
  return new CaissonError("SNAPSHOT_STORE_UNAVAILABLE", `Cannot use the snapshot store: ${reason}`, {
    cause: new Error(`${url}: ${detail}`, { cause }),
  });
}
