export type { ImageProgress } from "./build-base-image.ts";
export {
  type BaseImageFile,
  defaultCacheDirectory,
  type EnsureBaseImageOptions,
  ensureBaseImage,
} from "./ensure-base-image.ts";
