import type { BaseImage } from "@caisson/node";

/** A failure and placement domain with its own storage pool. */
export interface Region {
  readonly name: string;
  /** Base images by their name, `builtin:debian-13`. */
  readonly baseImages: ReadonlyMap<string, BaseImage>;
  readonly hasReplicated: boolean;
}

/** What a sandbox without `root` boots from. */
export const DEFAULT_BASE_IMAGE = "builtin:debian-13";
