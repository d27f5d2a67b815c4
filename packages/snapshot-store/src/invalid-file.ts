import { CaissonError } from "@caisson/model";

const ADVICE = "Nothing of it was kept. Export the snapshot again, or send the file again";

/** The error of a snapshot file, or another image, that cannot be taken: `reason` is a clause, `advice` what to do. */
export function invalidFile(
  reason: string,
  options?: { readonly cause?: unknown; readonly advice?: string },
): CaissonError {
  const { cause, advice = ADVICE } = options ?? {};
  return new CaissonError("INVALID_SNAPSHOT_FILE", `Cannot use the snapshot file: ${reason}. ${advice}`, { cause });
}
