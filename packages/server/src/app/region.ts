import type { SharedPool } from "@caisson/database";
import type { BaseImage } from "@caisson/node";

/** A failure and placement domain with its own storage pool. */
export interface Region {
  readonly name: string;
  /** Base images by their name, `builtin:debian-13`. */
  readonly baseImages: ReadonlyMap<string, BaseImage>;
  readonly hasReplicated: boolean;
  /** What the node has said of its replicated pool when it began; null: the pool is none that nodes share, or was not open yet. */
  readonly shared: SharedPool | null;
}

/** What a sandbox without `root` boots from. */
export const DEFAULT_BASE_IMAGE = "builtin:debian-13";
