import { CaissonError } from "@caisson/model";
import type { BaseImage } from "@caisson/node";
import type { ConnectedNode } from "../nodes/node-directory.ts";

/** The built-in image of that name in a region of the node. Throws `SNAPSHOT_NOT_FOUND`, or `STORAGE_FULL` where the pool had no room for any. */
export function requireBaseImage({ regions }: Pick<ConnectedNode, "regions">, region: string, name: string): BaseImage {
  const baseImages: ReadonlyMap<string, BaseImage> = regions.get(region)?.baseImages ?? new Map();
  const base = baseImages.get(name);
  if (base !== undefined) return base;
  if (baseImages.size === 0) {
    throw new CaissonError(
      "STORAGE_FULL",
      `The pool of region ${region} had no room for the built-in image when the server started. Make room ("caisson df" shows what holds it), ` +
        "then start the server again",
    );
  }
  throw new CaissonError(
    "SNAPSHOT_NOT_FOUND",
    `There is no built-in image ${JSON.stringify(name.slice(0, 64))}: choose one of ${[...baseImages.keys()].join(", ")}`,
  );
}
