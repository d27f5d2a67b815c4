export type { ImageProgress } from "./build-image.ts";
export { type BuiltImage, defaultCacheDirectory, type EnsureImageOptions, ensureImage } from "./ensure-image.ts";
