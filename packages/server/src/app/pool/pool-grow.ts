import { CaissonError } from "@caisson/model";
import { type PoolCapacity, poolDirectory } from "@caisson/node";
import { readPoolSizes } from "../../config.ts";
import { requireAdmin } from "../access/administrator.ts";
import type { Actor, AppContext } from "../context.ts";
import { recordPoolEvent } from "./pool-event.ts";

/**
 * Applies the sizes of the settings, `pool.size` and those of `pool.disks`, which were raised, without a restart: it reads them again and makes every
 * region's pool of this host that large. What it has grown stays grown, also when a later region fails, and a start with the same settings does the same. Throws `FORBIDDEN`,
 * `INVALID_CONFIG` for settings that cannot be read or name no size, or where this host has no pool, and `INVALID_CAPACITY` for a size that is smaller.
 */
export async function growPools(app: AppContext, actor: Actor): Promise<readonly PoolCapacity[]> {
  requireAdmin(actor, "make the pools larger");
  const sizes = readPoolSizes(app.config.configPath);
  const capacities: PoolCapacity[] = [];
  const { own } = app.nodes;
  if (own === null)
    throw new CaissonError(
      "INVALID_CONFIG",
      "Cannot grow a pool: this server has none. Raise the sizes in the settings of the node that has it, and start that node again",
    );
  const { node, regions } = own;
  for (const region of regions.keys()) {
    const further = sizes.disks.map(({ sizeBytes, directory }) => ({ sizeBytes, disk: directory }));
    const wanted = [{ sizeBytes: sizes.sizeBytes, disk: null }, ...further].filter(hasSize);
    if (wanted.length === 0) {
      throw new CaissonError(
        "INVALID_CONFIG",
        `Cannot grow the pool: the settings ${app.config.configPath} name no size for it. Set "size" under [pool], or of one of [[pool.disks]], and try again`,
      );
    }
    for (const { sizeBytes, disk } of wanted) {
      await node.growPool(region, { sizeBytes, disk });
      const place = disk === null ? {} : { directory: poolDirectory(disk, region) };
      await recordPoolEvent(app.store, region, "pool-grow", "ok", { sizeBytes, ...place, actor: actor.token.id });
    }
    const capacity = await node.poolCapacity(region);
    app.logger.info({ region, ...capacity }, "the pool has grown");
    capacities.push(capacity);
  }
  return capacities;
}

/** Without a disk: the data directory's own. */
interface WantedSize {
  readonly sizeBytes: number | null;
  readonly disk: string | null;
}

function hasSize(wanted: WantedSize): wanted is WantedSize & { readonly sizeBytes: number } {
  return wanted.sizeBytes !== null;
}
