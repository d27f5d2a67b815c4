import { cephPoolName, checkReplicatedPool, type ReplicatedPoolSettings } from "@caisson/node";
import { type Check, ok, warning } from "./check.ts";

const NAME = "replicated pool";

/** Looks whether the replicated pool of the settings is there. Local volumes work without it, so that nothing here is worse than a warning. */
export async function checkReplicated(settings: ReplicatedPoolSettings): Promise<Check> {
  const problem = await checkReplicatedPool(settings);
  const name =
    "pool" in settings ? `pool ${cephPoolName(settings)} of the Ceph cluster of ${settings.conf}` : settings.directory;
  if (problem === null) return ok(NAME, name);
  return warning(
    NAME,
    problem,
    "Replicated volumes cannot be used until it is there; the server looks again by itself",
  );
}
