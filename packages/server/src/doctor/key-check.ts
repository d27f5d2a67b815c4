import { listInstallations } from "@caisson/snapshot-store";
import { openStoredObjects } from "../snapshot-store/open-snapshot-store.ts";
import type { SnapshotStoreConfig } from "../snapshot-store/snapshot-store-config.ts";
import { type Check, ok, warning } from "./check.ts";

const NAME = "installation key";
const LOOK_MS = 10_000;

/** Looks whether a rotation of the installation's key is not at its end: the store is another's as well then. Both keys open everything meanwhile, so that nothing here is worse than a warning. */
export async function checkInstallationKey(config: SnapshotStoreConfig): Promise<Check> {
  try {
    await using objects = await openStoredObjects(config);
    const { length } = await listInstallations(objects, AbortSignal.timeout(LOOK_MS));
    if (length <= 1) return ok(NAME, length === 0 ? "the snapshot store has none yet" : "one opens the snapshot store");
    return warning(
      NAME,
      `${length} keys open the snapshot store: a rotation is not at its end`,
      "Keep what `caisson keys export --new` prints elsewhere, and run `caisson keys finish --key FILE` with it; `caisson store get` says how far the rotation is",
    );
  } catch (error) {
    return warning(NAME, (error as Error).message, "Nobody knows which keys open the snapshot store: mend that");
  }
}
