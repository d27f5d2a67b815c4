export type { ImageProgress } from "./build-base-image.ts";
export { PACKAGES } from "./debian-13-recipe.ts";
export {
  type BaseImageFile,
  defaultCacheDirectory,
  type EnsureBaseImageOptions,
  ensureBaseImage,
} from "./ensure-base-image.ts";
