import { mkdir, mkdtemp, open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { hasErrorCode, lockFile, step } from "@caisson/linux";
import { type BuildOptions, buildBaseImage, type ImageProgress } from "./build-base-image.ts";
import { type ImageInputs, imageKey, readImageInputs } from "./host-inputs.ts";

export interface EnsureBaseImageOptions extends BuildOptions {
  /** Holds finished images as `<key>.ext4`. Default: `$CAISSON_CACHE/images` or `/var/cache/caisson/images`. */
  readonly cacheDirectory?: string;
  /** Default: read from the host. */
  readonly inputs?: ImageInputs;
}

export interface BaseImageFile {
  /** An ext4 file system, never written to again. */
  readonly path: string;
  /** Names the content: the same key means the same packages, mirrors, certificates and versions. */
  readonly key: string;
  readonly sizeBytes: number;
}

const BUILD_PREFIX = ".build-";

/**
 * Returns the image of `builtin:debian-13`, made now when the cache has none with this content. One builder works at a time, the others
 * wait for it and find its image. A build that was interrupted, even by a power cut, leaves nothing that would be taken for an image,
 * and the next builder removes what it did leave.
 */
export async function ensureBaseImage(options: EnsureBaseImageOptions = {}): Promise<BaseImageFile> {
  const directory = options.cacheDirectory ?? defaultCacheDirectory();
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const inputs = options.inputs ?? (await readImageInputs());
  const key = imageKey(inputs);
  const path = join(directory, `${key}.ext4`);
  const found = (await findImage(path, key)) ?? (await buildLocked(directory, path, inputs, options));
  options.onProgress?.({ phase: "done", fraction: 1, message: "The image is ready" });
  return found;
}

export function defaultCacheDirectory(): string {
  return join(process.env.CAISSON_CACHE ?? "/var/cache/caisson", "images");
}

async function buildLocked(
  directory: string,
  path: string,
  inputs: ImageInputs,
  options: EnsureBaseImageOptions,
): Promise<BaseImageFile> {
  const waiting: ImageProgress = { phase: "waiting", fraction: 0, message: "Waiting for another build of this image" };
  await using _lock = await lockFile(join(directory, ".lock"), {
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    onWait: () => options.onProgress?.(waiting),
  });
  const key = imageKey(inputs);
  const found = await findImage(path, key);
  if (found !== null) return found;
  for (const name of await readdir(directory)) {
    if (name.startsWith(BUILD_PREFIX)) await rm(join(directory, name), { recursive: true, force: true });
  }
  const work = await mkdtemp(join(directory, BUILD_PREFIX));
  try {
    const image = await buildBaseImage(work, inputs, options);
    await step("image.commit", async () => {
      await rename(image, path);
      await syncDirectory(directory);
    });
  } finally {
    // Processes of an aborted build may write for another moment after they were killed.
    await rm(work, { recursive: true, force: true, maxRetries: 20, retryDelay: 10 });
  }
  return { path, key, sizeBytes: (await stat(path)).size };
}

async function findImage(path: string, key: string): Promise<BaseImageFile | null> {
  try {
    return { path, key, sizeBytes: (await stat(path)).size };
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return null;
    throw error;
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
