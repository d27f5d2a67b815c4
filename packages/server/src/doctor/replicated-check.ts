import { type ReplicatedDirectory, requireMounted } from "@caisson/node";
import { type Check, ok, warning } from "./check.ts";

const NAME = "replicated pool";

/** Looks whether the replicated pool of the settings is there. Local volumes work without it, so that nothing here is worse than a warning. */
export async function checkReplicated({ directory }: ReplicatedDirectory): Promise<Check> {
  try {
    await requireMounted(directory);
    return ok(NAME, directory);
  } catch (error) {
    return warning(
      NAME,
      error instanceof Error ? error.message : String(error),
      "Replicated volumes cannot be used until it is there; the server looks again by itself",
    );
  }
}
