import { CaissonError } from "@caisson/model";
import type { PoolCapacity } from "@caisson/storage";
import { readPoolSize } from "../../config.ts";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { recordPoolEvent } from "./pool-event.ts";

/**
 * Applies `pool.size` of the settings, which was raised, without a restart: it reads that one setting again and makes every region's pool that
 * large. What it has grown stays grown, also when a later region fails, and a start with the same settings does the same. Throws `FORBIDDEN`,
 * `INVALID_CONFIG` for settings that cannot be read or name no size, and `INVALID_CAPACITY` for a size that is smaller.
 */
export async function growPools(app: AppContext, actor: Actor): Promise<readonly PoolCapacity[]> {
  requireAdmin(actor, "make the pools larger");
  const sizeBytes = readPoolSize(app.config.configPath);
  if (sizeBytes === null) {
    throw new CaissonError(
      "INVALID_CONFIG",
      `Cannot grow the pool: the settings ${app.config.configPath} name no size for it. Set "size" under [pool] and try again`,
    );
  }
  const capacities: PoolCapacity[] = [];
  for (const { name, storage } of app.regions.values()) {
    await storage.growPool(sizeBytes);
    const capacity = await storage.capacity();
    await recordPoolEvent(app.store, name, "pool-grow", "ok", { sizeBytes, actor: actor.token.id });
    app.logger.info({ region: name, ...capacity }, "the pool has grown");
    capacities.push(capacity);
  }
  return capacities;
}
