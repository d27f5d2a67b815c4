import { CaissonError } from "@caisson/model";
import type { PoolCapacity } from "@caisson/storage";
import { readPoolSizes } from "../../config.ts";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { poolDirectory } from "./pool-directory.ts";
import { recordPoolEvent } from "./pool-event.ts";

/**
 * Applies the sizes of the settings, `pool.size` and those of `pool.disks`, which were raised, without a restart: it reads them again and makes every
 * region's pool that large. What it has grown stays grown, also when a later region fails, and a start with the same settings does the same. Throws `FORBIDDEN`,
 * `INVALID_CONFIG` for settings that cannot be read or name no size, and `INVALID_CAPACITY` for a size that is smaller.
 */
export async function growPools(app: AppContext, actor: Actor): Promise<readonly PoolCapacity[]> {
  requireAdmin(actor, "make the pools larger");
  const sizes = readPoolSizes(app.config.configPath);
  const capacities: PoolCapacity[] = [];
  for (const { name, storage } of app.regions.values()) {
    const further = sizes.disks.map((disk) => ({ ...disk, directory: poolDirectory(disk, name) }));
    const wanted = [{ sizeBytes: sizes.sizeBytes }, ...further].filter(hasSize);
    if (wanted.length === 0) {
      throw new CaissonError(
        "INVALID_CONFIG",
        `Cannot grow the pool: the settings ${app.config.configPath} name no size for it. Set "size" under [pool], or of one of [[pool.disks]], and try again`,
      );
    }
    for (const { sizeBytes, directory } of wanted) {
      await storage.growPool(sizeBytes, directory);
      const place = directory === undefined ? {} : { directory };
      await recordPoolEvent(app.store, name, "pool-grow", "ok", { sizeBytes, ...place, actor: actor.token.id });
    }
    const capacity = await storage.capacity();
    app.logger.info({ region: name, ...capacity }, "the pool has grown");
    capacities.push(capacity);
  }
  return capacities;
}

/** Without a directory: the data directory's own disk. */
interface WantedSize {
  readonly sizeBytes: number | null;
  readonly directory?: string;
}

function hasSize(wanted: WantedSize): wanted is WantedSize & { readonly sizeBytes: number } {
  return wanted.sizeBytes !== null;
}
