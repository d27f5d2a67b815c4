import type { ImageId, ImageUsage } from "../driver.ts";
import { bytesIn, difference, EMPTY, type ExtentSet, extentSet, intersection, union } from "./extent-set.ts";
import type { DiffExtent, RbdClient, RbdImage } from "./rbd-client.ts";
import { type Found, type ImageRow, isThere } from "./register.ts";

/** An image of the cluster, perhaps one in its trash, with what stands about it. */
interface Located {
  readonly image: string;
  readonly imageId: string | null;
  readonly info: RbdImage;
}

interface Change {
  readonly data: ExtentSet;
  readonly gone: ExtentSet;
}

export interface UsageQuery {
  readonly row: ImageRow;
  readonly base: ImageRow | null;
  readonly rows: ReadonlyMap<ImageId, Found<ImageRow>>;
}

/**
 * Measures an image by what the cluster tells of changes from one of its snapshots to the next. The cluster counts in objects: what was written of one
 * counts from the object's beginning, and what is written to a part of a clone that it shares with its parent counts as a whole object.
 */
export class ImageMeter {
  readonly #client: RbdClient;
  readonly #query: UsageQuery;
  #trash: ReadonlyMap<string, string> | null = null;

  constructor(client: RbdClient, query: UsageQuery) {
    this.#client = client;
    this.#query = query;
  }

  async measure(): Promise<ImageUsage> {
    const { row, base } = this.#query;
    const located = await this.#locate(row.image);
    if (located === null) return { allocatedBytes: 0, flattenedBytes: 0, exclusiveBytes: 0 };
    const contents = await this.#contents(located, row.snapshot, true);
    const since = base === null ? null : await this.#since(base, located, row.snapshot);
    const flattenedBytes = bytesIn(contents);
    const exclusiveBytes = await this.#exclusive(located, row.snapshot, null);
    return {
      allocatedBytes: since === null ? flattenedBytes : bytesIn(intersection(since, contents)),
      flattenedBytes,
      exclusiveBytes: Math.min(flattenedBytes, exclusiveBytes),
    };
  }

  /** What is in the image at a snapshot (`null`: now), with or without what it shares with its parent. */
  async #contents({ image, imageId, info }: Located, snapshot: string | null, hasParent: boolean): Promise<ExtentSet> {
    let contents = EMPTY;
    let since: string | null = null;
    // A single comparison with the beginning would count what was discarded in between.
    for (const at of [...snapshotsBefore(info, snapshot), snapshot]) {
      const extents: readonly DiffExtent[] = await this.#client.diff({
        image,
        imageId,
        since,
        snapshot: at,
        hasParent,
        isWhole: false,
      });
      const { data, gone } = changeOf(extents);
      contents = union(difference(contents, gone), data);
      since = at;
    }
    return contents;
  }

  async #changed({ image, imageId }: Located, since: string | null, snapshot: string | null): Promise<Change> {
    return changeOf(await this.#client.diff({ image, imageId, since, snapshot, hasParent: false, isWhole: false }));
  }

  /** What came since the base; null: the base is none of the image's past. */
  async #since(base: ImageRow, located: Located, snapshot: string | null): Promise<ExtentSet | null> {
    if (base.snapshot === null) return null;
    if (located.image === base.image) {
      const isPast = snapshotsBefore(located.info, snapshot).includes(base.snapshot) || base.snapshot === snapshot;
      if (!isPast) return null;
      return base.snapshot === snapshot ? EMPTY : (await this.#changed(located, base.snapshot, snapshot)).data;
    }
    const { parent } = located.info;
    if (parent === null) return null;
    const own = await this.#contents(located, snapshot, false);
    const above = await this.#locate(parent.image);
    if (above === null) return null;
    const inherited = await this.#since(base, above, parent.snapshot);
    return inherited === null ? null : union(own, inherited);
  }

  /** What the cluster would give back if this were deleted. `child`: a clone of it that would be gone, too. */
  async #exclusive(located: Located, snapshot: string | null, child: string | null): Promise<number> {
    const { image, info } = located;
    const at = info.snapshots.findIndex(({ name }) => name === snapshot);
    const childCount = snapshot === null ? 0 : (info.snapshots[at]?.childCount ?? 0);
    if (childCount > (child === null ? 0 : 1)) return 0;
    const [before, here] = [snapshotsBefore(info, snapshot).at(-1) ?? null, [...this.#query.rows.values()]];
    const owners = here.filter(({ row }) => row.image === image && isThere(row));
    const hasHead = owners.some(({ row }) => row.snapshot === null);
    const next = snapshot === null ? null : (info.snapshots[at + 1]?.name ?? null);
    let own =
      before === null
        ? await this.#contents(located, snapshot, false)
        : (await this.#changed(located, before, snapshot)).data;
    if (snapshot !== null && (next !== null || hasHead)) {
      const { data, gone } = await this.#changed(located, snapshot, next);
      own = intersection(own, union(data, gone));
    }
    const isLast =
      owners.length === (child === null ? 1 : 0) &&
      info.snapshots.every(({ name, childCount }) => name === snapshot || childCount === 0);
    if (!isLast || info.parent === null) return bytesIn(own);
    const above = await this.#locate(info.parent.image);
    const isParentNeeded = here.some(
      ({ row }) => isThere(row) && row.image === info.parent?.image && row.snapshot === info.parent.snapshot,
    );
    if (above === null || isParentNeeded) return bytesIn(own);
    return bytesIn(own) + (await this.#exclusive(above, info.parent.snapshot, image));
  }

  async #locate(image: string): Promise<Located | null> {
    const info = await this.#client.info(image);
    if (info !== null) return { image, imageId: null, info };
    this.#trash ??= new Map((await this.#client.trash()).map(({ name, id }) => [name, id]));
    const imageId = this.#trash.get(image) ?? null;
    const found = imageId === null ? null : await this.#client.info(image, imageId);
    return found === null ? null : { image, imageId, info: found };
  }
}

/** Oldest first. */
function snapshotsBefore({ snapshots }: RbdImage, snapshot: string | null): readonly string[] {
  const names = snapshots.map(({ name }) => name);
  return snapshot === null ? names : names.slice(0, names.indexOf(snapshot));
}

function changeOf(extents: readonly DiffExtent[]): Change {
  const pick = (isData: boolean): ExtentSet =>
    extentSet(extents.filter((extent) => extent[2] === isData).map(([offset, length]) => [offset, offset + length]));
  return { data: pick(true), gone: pick(false) };
}
