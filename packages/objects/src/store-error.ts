import { CaissonError } from "@caisson/model";

/** The error of a store of objects that cannot do what it is asked to: `reason` is a clause, with what to do where that is known. */
export function storeUnavailable(url: string, reason: string, cause?: unknown): CaissonError {
  return new CaissonError("SNAPSHOT_STORE_UNAVAILABLE", `Cannot use the snapshot store ${url}: ${reason}`, { cause });
}
